//! What a message says: a text, or parts as Mistral's reasoning models write them.
//!
//! Source: Mistral AI documentation, "Reasoning". Parts of other kinds are left out.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::json::Kind;

/// See the module's text.
#[derive(Debug)]
pub(super) enum Said<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<(Kind, String)>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<Vec<Thought>>,
}

#[derive(Deserialize)]
struct Thought {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnyPart {
    Known(Part),
    Unknown(IgnoredAny),
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = Said<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or parts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Said::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Said::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    let AnyPart::Known(part) = part else { continue };
                    let thoughts = part.thinking.into_iter().flatten();
                    let thoughts = thoughts.filter_map(|thought| thought.text);
                    parts.extend(thoughts.map(|text| (Kind::Reasoning, text)));
                    parts.extend(part.text.map(|text| (Kind::Text, text)));
                }
                Ok(Said::Parts(parts))
            }
        }

        deserializer.deserialize_any(Forms)
    }
}
