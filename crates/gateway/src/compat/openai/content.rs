//! What a message says: a text, parts, or nothing.

use std::fmt;

use lyceum_core::{Content, Part};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// See the module's text.
#[derive(Debug)]
pub(super) struct ContentIn(pub(super) Content);

impl<'de> Deserialize<'de> for ContentIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = ContentIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<ContentIn, E> {
                Ok(ContentIn(Content::Text(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<ContentIn, E> {
                Ok(ContentIn(Content::Text(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ContentIn, A::Error> {
                let mut parts = Vec::new();
                while let Some(fields) = seq.next_element::<Map<String, Value>>()? {
                    parts.push(part(fields).map_err(de::Error::custom)?);
                }
                Ok(ContentIn(Content::Parts(parts)))
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

fn part(mut fields: Map<String, Value>) -> Result<Part, &'static str> {
    match fields.get("type").and_then(Value::as_str) {
        Some("text") => match fields.remove("text") {
            Some(Value::String(text)) => {
                fields.remove("type");
                Ok(Part::Text {
                    text,
                    extra: fields,
                })
            }
            _ => Err("a part of type text needs its text"),
        },
        Some("image_url") => match fields.remove("image_url") {
            Some(Value::Object(mut image)) => match image.remove("url") {
                Some(Value::String(url)) => Ok(Part::Image { url, extra: image }),
                _ => Err("an image_url needs its url"),
            },
            Some(Value::String(url)) => Ok(Part::Image {
                url,
                extra: Map::new(),
            }),
            _ => Err("a part of type image_url needs its image_url"),
        },
        Some(_) => Ok(Part::Other(Value::Object(fields))),
        None => Err("a part needs its type"),
    }
}
