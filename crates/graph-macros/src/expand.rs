//! Writes the code of one derived state.
//!
//! Invariant: the generated `apply` cannot fail; whatever can go wrong between writers
//! is found by `conflict` first. Deliberately absent: generic states.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Ident, Result};

use crate::{
    channel::{Channel, Kind},
    schema,
};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let refuse = |text| Err(Error::new_spanned(&input.ident, text));
    let Data::Struct(data) = &input.data else {
        return refuse("a state is a struct: an enum cannot be merged field by field");
    };
    let Fields::Named(fields) = &data.fields else {
        return refuse("a state has named fields: each one is a channel");
    };
    if !input.generics.params.is_empty() {
        return refuse(
            "a state has no generic parameters: they cannot be read back from a checkpoint",
        );
    }
    let channels = fields
        .named
        .iter()
        .map(Channel::read)
        .collect::<Result<Vec<_>>>()?;
    let update = format_ident!("{}Update", input.ident);
    let update_type = update_type(input, &update, &channels);
    let state_impl = state_impl(&input.ident, &update, &channels);
    let described = schema::expand(input, &update, &channels)?;
    Ok(quote! { #update_type #state_impl #described })
}

/// `EssayUpdate`: the struct, its setters and its conversions.
fn update_type(input: &DeriveInput, update: &Ident, channels: &[Channel<'_>]) -> TokenStream {
    let (state, vis) = (&input.ident, &input.vis);
    let doc = format!("A node's writes to [`{state}`]: a channel left out keeps its value.");
    let fields = channels.iter().map(|channel| {
        let Channel { name, write, .. } = channel;
        let doc = format!("What is written to `{name}`, if anything.");
        let serde = if matches!(channel.kind, Kind::Untracked) {
            quote!(#[serde(skip)])
        } else {
            quote!(#[serde(default, skip_serializing_if = "::core::option::Option::is_none")])
        };
        quote! { #[doc = #doc] #serde pub #name: ::core::option::Option<#write> }
    });
    let setters = channels.iter().map(|channel| {
        let Channel { name, write, .. } = channel;
        let doc = format!("Writes `{name}`.");
        quote! {
            #[doc = #doc]
            #[must_use]
            pub fn #name(mut self, value: impl ::core::convert::Into<#write>) -> Self {
                self.#name = ::core::option::Option::Some(value.into());
                self
            }
        }
    });
    let written = channels.iter().map(|Channel { name, .. }| {
        let text = name.to_string();
        quote! { if self.#name.is_some() { names.entry(&#text); } }
    });
    quote! {
        #[doc = #doc]
        #[derive(
            ::core::clone::Clone,
            ::core::default::Default,
            ::lyceum_graph::derive::serde::Serialize,
            ::lyceum_graph::derive::serde::Deserialize,
        )]
        #[serde(crate = "::lyceum_graph::derive::serde", deny_unknown_fields)]
        #vis struct #update { #(#fields,)* }

        impl #update {
            /// An update that writes nothing yet.
            #[must_use]
            pub fn new() -> Self {
                ::core::default::Default::default()
            }
            #(#setters)*
        }

        /// Shows which channels are written, not their values: a log is no place for a state.
        impl ::core::fmt::Debug for #update {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(::core::stringify!(#update))?;
                let mut names = f.debug_set();
                #(#written)*
                names.finish()
            }
        }

        impl ::core::convert::From<#update> for ::lyceum_graph::Command<#state> {
            fn from(update: #update) -> Self {
                ::lyceum_graph::Command::update(update)
            }
        }

        impl ::core::convert::From<#update> for ::lyceum_graph::Input<#state> {
            fn from(update: #update) -> Self {
                ::lyceum_graph::Input::Update(update)
            }
        }

        impl ::core::convert::From<#state> for ::lyceum_graph::Input<#state> {
            fn from(state: #state) -> Self {
                ::lyceum_graph::Input::State(state)
            }
        }
    }
}

/// `impl State`: the channel table and what the runtime does with each channel.
fn state_impl(state: &Ident, update: &Ident, channels: &[Channel<'_>]) -> TokenStream {
    let table = channels.iter().map(|channel| {
        let name = channel.name.to_string();
        let variant = format_ident!("{}", channel.kind.variant());
        quote! {
            ::lyceum_graph::Channel { name: #name, kind: ::lyceum_graph::ChannelKind::#variant }
        }
    });
    let numbered = || {
        (0..channels.len())
            .map(Literal::usize_suffixed)
            .zip(channels)
    };
    let conflicts = numbered()
        .filter(|(_, c)| c.kind.is_exclusive())
        .map(|(index, c)| {
            let name = c.name;
            quote! {
                if let ::core::option::Option::Some(found) = ::lyceum_graph::derive::conflict(
                    #index,
                    updates.iter().map(|update| update.#name.is_some()),
                ) {
                    return ::core::option::Option::Some(found);
                }
            }
        });
    let writes = numbered().map(|(index, c)| {
        let name = c.name;
        quote!(#index => update.#name.is_some(),)
    });
    let resets = numbered()
        .filter(|(_, c)| c.kind.lives_one_step())
        .map(|(index, c)| {
            let name = c.name;
            let is_over = match c.kind {
                Kind::Barrier(_) => {
                    quote!(::lyceum_graph::derive::Gate::shuts(&self.#name) &&)
                }
                _ => TokenStream::new(),
            };
            quote! {
                if #is_over changed.expire(#index) {
                    self.#name = ::core::default::Default::default();
                }
            }
        });
    let applies = numbered().map(|(index, channel)| {
        let name = channel.name;
        let merge = merge(channel);
        let mark = if channel.is_delta() {
            quote!(changed.merge(#index, &write);)
        } else {
            quote!(changed.mark(#index);)
        };
        quote! {
            if let ::core::option::Option::Some(write) = update.#name {
                #mark
                #merge
            }
        }
    });
    let tracked = || numbered().filter(|(_, c)| !matches!(c.kind, Kind::Untracked));
    let saves = tracked().map(|(index, Channel { name, .. })| {
        quote!(#index => ::lyceum_graph::derive::serde_json::to_vec(&self.#name),)
    });
    let loads = tracked().map(|(index, Channel { name, .. })| {
        quote!(#index => self.#name = ::lyceum_graph::derive::serde_json::from_slice(bytes)?,)
    });
    let replays = tracked().map(|(index, channel)| {
        let write = &channel.write;
        let merge = merge(channel);
        quote! {
            #index => {
                let writes: ::std::vec::Vec<#write> =
                    ::lyceum_graph::derive::serde_json::from_slice(bytes)?;
                for write in writes {
                    #merge
                }
            }
        }
    });
    quote! {
        impl ::lyceum_graph::State for #state {
            type Update = #update;

            const CHANNELS: &'static [::lyceum_graph::Channel] = &[#(#table,)*];

            fn conflict(
                updates: &[#update],
            ) -> ::core::option::Option<::lyceum_graph::Conflict> {
                #(#conflicts)*
                ::core::option::Option::None
            }

            fn writes(update: &#update, channel: usize) -> bool {
                match channel {
                    #(#writes)*
                    _ => false,
                }
            }

            fn next_step(&mut self, changed: &mut ::lyceum_graph::Changed) {
                #(#resets)*
            }

            fn apply(&mut self, update: #update, changed: &mut ::lyceum_graph::Changed) {
                #(#applies)*
            }

            fn save(
                &self,
                channel: usize,
            ) -> ::core::result::Result<
                ::std::vec::Vec<u8>,
                ::lyceum_graph::derive::serde_json::Error,
            > {
                match channel {
                    #(#saves)*
                    _ => ::core::result::Result::Ok(::std::vec::Vec::new()),
                }
            }

            fn load(
                &mut self,
                channel: usize,
                bytes: &[u8],
            ) -> ::core::result::Result<(), ::lyceum_graph::derive::serde_json::Error> {
                match channel {
                    #(#loads)*
                    _ => {}
                }
                ::core::result::Result::Ok(())
            }

            fn replay(
                &mut self,
                channel: usize,
                bytes: &[u8],
            ) -> ::core::result::Result<(), ::lyceum_graph::derive::serde_json::Error> {
                match channel {
                    #(#replays)*
                    _ => {}
                }
                ::core::result::Result::Ok(())
            }
        }
    }
}

/// The statement that merges `write` into the channel's field.
fn merge(channel: &Channel<'_>) -> TokenStream {
    let Channel {
        field,
        name,
        kind,
        write,
        ..
    } = channel;
    let ty = &field.ty;
    match kind {
        Kind::Last | Kind::Ephemeral | Kind::Untracked => quote!(self.#name = write;),
        Kind::Append | Kind::Merge | Kind::Topic => {
            quote!(::core::iter::Extend::extend(&mut self.#name, write);)
        }
        Kind::Add => quote!(::core::ops::AddAssign::add_assign(&mut self.#name, write);),
        Kind::Max => quote!(if write > self.#name { self.#name = write; }),
        Kind::Min => quote!(if write < self.#name { self.#name = write; }),
        Kind::Barrier(needed) => quote! {
            ::lyceum_graph::derive::Gate::arrive(&mut self.#name, write, #needed);
        },
        Kind::Fold(path) => quote! {
            let fold: fn(&mut #ty, #write) = #path;
            fold(&mut self.#name, write);
        },
    }
}
