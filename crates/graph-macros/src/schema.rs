//! The description of a state that asks for one by `#[state(schema)]`.
//!
//! Invariant: a description names the channels that are saved, in order of declaration.
//! Deliberately absent: the schemas of the field types, which `schemars` knows.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, DeriveInput, Expr, ExprLit, Ident, Lit, Meta, Result};

use crate::channel::{Channel, Kind};

/// `impl Described`, or nothing when the struct does not ask for it.
pub(crate) fn expand(
    input: &DeriveInput,
    update: &Ident,
    channels: &[Channel<'_>],
) -> Result<TokenStream> {
    if !asks(&input.attrs)? {
        return Ok(TokenStream::new());
    }
    let state = &input.ident;
    let doc = doc(&input.attrs);
    let tracked = || {
        channels
            .iter()
            .filter(|channel| !matches!(channel.kind, Kind::Untracked))
    };
    let values = tracked().map(|channel| {
        let (name, ty, doc) = parts(channel);
        quote!(fields.add::<#ty>(#name, #doc);)
    });
    let writes = tracked().map(|channel| {
        let (name, _, doc) = parts(channel);
        let write = &channel.write;
        quote!(fields.add::<#write>(#name, #doc);)
    });
    Ok(quote! {
        impl ::lyceum_graph::Described for #state {
            fn state_schema() -> ::lyceum_graph::schemars::Schema {
                let mut fields = ::lyceum_graph::derive::Fields::default();
                #(#values)*
                fields.finish(::core::stringify!(#state), #doc, true)
            }

            fn update_schema() -> ::lyceum_graph::schemars::Schema {
                let mut fields = ::lyceum_graph::derive::Fields::default();
                #(#writes)*
                fields.finish(::core::stringify!(#update), "", false)
            }
        }
    })
}

/// A channel's name, the type of its value, and what its documentation says.
fn parts<'a>(channel: &Channel<'a>) -> (String, &'a syn::Type, String) {
    let field = channel.field;
    (channel.name.to_string(), &field.ty, doc(&field.attrs))
}

/// Whether the struct carries `#[state(schema)]`.
fn asks(attributes: &[Attribute]) -> Result<bool> {
    let mut asked = false;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("schema") {
                asked = true;
                return Ok(());
            }
            Err(meta.error("unknown attribute of a state: use schema"))
        })?;
    }
    Ok(asked)
}

/// The lines of a doc comment, joined.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(line),
                ..
            }) if pair.path.is_ident("doc") => Some(line.value().trim().to_owned()),
            _ => None,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
