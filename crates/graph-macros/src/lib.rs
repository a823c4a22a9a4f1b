//! `#[derive(State)]`: the update type and the channel table of a graph's state.
//!
//! Invariant: the generated code names only `::lyceum_graph` paths, so a user's crate
//! needs no other dependency. Deliberately absent: anything at run time.

mod channel;
mod expand;
mod schema;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `State` for a struct with named fields; every field is a channel.
///
/// For `struct Essay` it also makes `EssayUpdate`, in which every channel is optional,
/// with one chainable setter per channel. A field says with `#[state(..)]` how several
/// writes become one value:
///
/// | attribute | writes become | two writers in one step |
/// |---|---|---|
/// | *(none)* | the last value | an error |
/// | `append` | extended collection | in task order |
/// | `add` | `+=` | yes |
/// | `max`, `min` | the larger or smaller value | yes |
/// | `merge` | extended map, later keys win | in task order |
/// | `fold = path` | `path(&mut value, write)`; `write = Type` if that differs | in task order |
/// | `topic` | a collection of this step's writes only | in task order |
/// | `ephemeral` | the value, for one step only | an error |
/// | `barrier = n` | a `Barrier` of different values, open for one step when it has `n` | yes |
/// | `untracked` | the last value, never saved | an error |
///
/// A checkpoint of an `append` or `merge` channel holds what was written since the last one,
/// and now and then the whole value. `#[state(fold = path, delta)]` asks for the same: the
/// function is then called again when a thread is read, so it must be pure and keep its
/// meaning from one release to the next.
///
/// `#[state(schema)]` on the struct also implements `Described`: the JSON Schema of the state
/// and of its update. It needs feature `schema` of `lyceum-graph`, and field types that
/// implement `schemars::JsonSchema`.
///
/// Field types are `Clone + Default + Send + Sync`, and implement serde's traits unless
/// they are `untracked`.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
