//! One field of a state, read from its `#[state(..)]` attribute.
//!
//! Invariant: a field has exactly one kind. Deliberately absent: code generation.

use syn::{Field, Ident, LitInt, Path, Result, Type, parse_quote, spanned::Spanned};

/// How the writes of one step become the channel's next value.
pub(crate) enum Kind {
    Last,
    Append,
    Add,
    Max,
    Min,
    Merge,
    Fold(Path),
    Topic,
    Ephemeral,
    Untracked,
    /// With the number of values it waits for.
    Barrier(LitInt),
}

impl Kind {
    /// The variant of `ChannelKind` that describes this channel at run time.
    pub(crate) fn variant(&self) -> &'static str {
        match self {
            Self::Last => "Last",
            Self::Append => "Append",
            Self::Add => "Add",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Merge => "Merge",
            Self::Fold(_) => "Fold",
            Self::Topic => "Topic",
            Self::Ephemeral => "Ephemeral",
            Self::Untracked => "Untracked",
            Self::Barrier(_) => "Barrier",
        }
    }

    /// Whether the value is gone after the next step, or may be.
    pub(crate) fn lives_one_step(&self) -> bool {
        matches!(self, Self::Topic | Self::Ephemeral | Self::Barrier(_))
    }

    /// Whether a second write in the same step is an error.
    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(self, Self::Last | Self::Ephemeral | Self::Untracked)
    }
}

/// A field with its kind and the type that nodes write.
pub(crate) struct Channel<'a> {
    pub(crate) field: &'a Field,
    pub(crate) name: &'a Ident,
    pub(crate) kind: Kind,
    pub(crate) write: Type,
    /// Whether a fold's writes are stored instead of its value.
    delta: bool,
}

/// Every word that `#[state(..)]` knows, for the error message.
const WORDS: &str = "append, add, max, min, merge, fold = path, write = Type, delta, topic, ephemeral, barrier = n or untracked";

impl<'a> Channel<'a> {
    pub(crate) fn read(field: &'a Field) -> Result<Self> {
        let Some(name) = &field.ident else {
            return Err(syn::Error::new(field.span(), "a state has named fields"));
        };
        let mut kind = None;
        let mut write = None;
        let mut delta = None;
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("state")) {
            attribute.parse_nested_meta(|meta| {
                let word = meta.path.get_ident().map(ToString::to_string);
                let found = match word.as_deref() {
                    Some("write") => {
                        write = Some(meta.value()?.parse::<Type>()?);
                        return Ok(());
                    }
                    Some("delta") => {
                        delta = Some(meta.path.span());
                        return Ok(());
                    }
                    Some("fold") => Kind::Fold(meta.value()?.parse()?),
                    Some("barrier") => Kind::Barrier(meta.value()?.parse()?),
                    Some("append") => Kind::Append,
                    Some("add") => Kind::Add,
                    Some("max") => Kind::Max,
                    Some("min") => Kind::Min,
                    Some("merge") => Kind::Merge,
                    Some("topic") => Kind::Topic,
                    Some("ephemeral") => Kind::Ephemeral,
                    Some("untracked") => Kind::Untracked,
                    _ => return Err(meta.error(format!("unknown channel kind: use {WORDS}"))),
                };
                if kind.replace(found).is_some() {
                    return Err(meta.error("a channel has one kind"));
                }
                Ok(())
            })?;
        }
        let kind = kind.unwrap_or(Kind::Last);
        if let (Some(write), false) = (&write, matches!(kind, Kind::Fold(_))) {
            return Err(syn::Error::new(
                write.span(),
                "`write` belongs to `fold`: other kinds write the field's own type",
            ));
        }
        if let (Some(span), false) = (delta, matches!(kind, Kind::Fold(_))) {
            return Err(syn::Error::new(
                span,
                "`delta` belongs to `fold`: `append` and `merge` are stored so anyway, and \
                 the others are small",
            ));
        }
        let ty = &field.ty;
        let write = match (write, &kind) {
            (Some(write), _) => write,
            (None, Kind::Barrier(_)) => {
                parse_quote!(<#ty as ::lyceum_graph::derive::Gate>::Member)
            }
            (None, _) => ty.clone(),
        };
        Ok(Self {
            field,
            name,
            kind,
            write,
            delta: delta.is_some(),
        })
    }

    /// Whether what is written is stored, not what it was merged into.
    pub(crate) fn is_delta(&self) -> bool {
        self.delta || matches!(self.kind, Kind::Append | Kind::Merge)
    }
}
