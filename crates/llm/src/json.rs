//! Reading JSON that is mostly known: objects whose unknown fields are kept, and a
//! shortcut for documents that differ from the last one in a single text.
//!
//! Invariant: reading gives the same with and without the shortcut. Nothing is copied
//! that is not kept.

use std::borrow::Cow;

use lyceum_core::{ChatEvent, Extra, ExtraPlace};
use memchr::memchr2;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// A text that is borrowed from the JSON where it holds no escapes. An `Option<Cow<str>>`
/// field alone would always be copied.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl Text<'_> {
    /// The text of a field that some servers send as an empty one instead of none.
    pub(crate) fn non_empty(this: Option<Self>) -> Option<String> {
        this.map(|text| text.0.into_owned())
            .filter(|text| !text.is_empty())
    }
}

/// The fields of an object that have no place of their own, unread. Those that are null
/// are left out: it is how servers write an absent field.
#[derive(Debug, Default)]
pub(crate) struct Rest<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Rest<'a> {
    pub(crate) fn push(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        if value.get() != "null" {
            if self.0.is_empty() {
                // Most objects with unknown fields have several.
                self.0.reserve(8);
            }
            self.0.push((name, value));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// The fields, read. One that is nested too deeply to be read is left out.
    pub(crate) fn read(self) -> Map<String, Value> {
        let fields = self.0.into_iter();
        fields
            .filter_map(|(name, raw)| Some((name.into_owned(), value(raw)?)))
            .collect()
    }

    /// The event that carries the fields, if there are any.
    pub(crate) fn event(self, place: ExtraPlace) -> Option<ChatEvent> {
        event(
            place,
            if self.is_empty() {
                Map::new()
            } else {
                self.read()
            },
        )
    }
}

/// The event that carries fields, if there are any.
pub(crate) fn event(place: ExtraPlace, fields: Map<String, Value>) -> Option<ChatEvent> {
    (!fields.is_empty()).then_some(ChatEvent::Extra(Extra { place, fields }))
}

/// Reads a document. Its bytes are checked to be UTF-8 once, not text by text, which is a
/// good part of the time that a small document takes.
pub(crate) fn document<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // For an error that says where.
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// Reads a value; `None` where it is nested too deeply or a number has no form.
pub(crate) fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

/// Declares an object whose fields are all optional and whose unknown fields are kept in
/// `rest`. Derived code could do the same only by copying every value first.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        struct $name<'a> {
            $($field: Option<$type>,)*
            rest: $crate::json::Rest<'a>,
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct Fields<'a>(std::marker::PhantomData<&'a ()>);

                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A>(self, mut map: A) -> Result<Self::Value, A::Error>
                    where
                        A: serde::de::MapAccess<'de>,
                    {
                        let mut all = $name::default();
                        while let Some(key) = map.next_key::<$crate::json::Text<'a>>()? {
                            match &*key.0 {
                                $($key => all.$field = map.next_value()?,)*
                                _ => all.rest.push(key.0, map.next_value()?),
                            }
                        }
                        Ok(all)
                    }
                }

                deserializer.deserialize_map(Fields(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use object;

/// What a text of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Reasoning,
}

impl Kind {
    pub(crate) fn event(self, text: String) -> ChatEvent {
        match self {
            Self::Text => ChatEvent::Text(text),
            Self::Reasoning => ChatEvent::Reasoning(text),
        }
    }
}

/// Remembers the last document that meant one piece of text and nothing else. A document
/// that has the same bytes around its text means the same with another text: most of a
/// stream is such documents, and comparing bytes is several times cheaper than parsing.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// Up to and with the text's opening quote.
    before: Vec<u8>,
    /// From the closing quote on.
    after: Vec<u8>,
    kind: Option<Kind>,
}

/// Longer documents are not worth remembering.
const MAX_TEMPLATE: usize = 4 << 10;

impl Template {
    /// The text of a document like the last one; `None` where it has to be parsed.
    pub(crate) fn read<'a>(&self, document: &'a [u8]) -> Option<(Kind, &'a str)> {
        let kind = self.kind?;
        let text = document
            .strip_prefix(&*self.before)?
            .strip_suffix(&*self.after)?;
        // Without quotes and escapes the text ends where the document says, and JSON
        // allows no control characters in it.
        if memchr2(b'"', b'\\', text).is_some() || text.iter().any(|byte| *byte < b' ') {
            return None;
        }
        Some((kind, std::str::from_utf8(text).ok()?))
    }

    /// Forgets the document: something else came between.
    pub(crate) fn forget(&mut self) {
        self.kind = None;
    }

    /// Remembers a document that meant `text`, a part of it, and nothing else, and that
    /// changed nothing either. A text with escapes has no place in it, so the document
    /// before it is kept.
    pub(crate) fn learn(&mut self, document: &[u8], text: &str, kind: Kind) {
        let Some(start) = text.as_ptr().addr().checked_sub(document.as_ptr().addr()) else {
            return;
        };
        let (Some(before), Some(after)) =
            (document.get(..start), document.get(start + text.len()..))
        else {
            return;
        };
        if before.ends_with(b"\"") && after.starts_with(b"\"") && document.len() <= MAX_TEMPLATE {
            self.before.clear();
            self.before.extend_from_slice(before);
            self.after.clear();
            self.after.extend_from_slice(after);
            self.kind = Some(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_reads_only_what_parsing_would_read_the_same() {
        let document = br#"{"a":{"t":"one"},"z":1}"#;
        let text = std::str::from_utf8(&document[11..14]).unwrap();
        assert_eq!(text, "one");
        let mut template = Template::default();
        assert_eq!(template.read(document), None);
        template.learn(document, text, Kind::Text);
        let read = |document: &'static [u8]| template.read(document).map(|(_, text)| text);
        assert_eq!(read(br#"{"a":{"t":"two"},"z":1}"#), Some("two"));
        assert_eq!(read(br#"{"a":{"t":""},"z":1}"#), Some(""));
        assert_eq!(
            read("{\"a\":{\"t\":\"二\"},\"z\":1}".as_bytes()),
            Some("二")
        );
        for other in [
            &br#"{"a":{"t":"two"},"z":2}"#[..],
            br#"{"a":{"t":"t\"wo"},"z":1}"#,
            br#"{"a":{"t":"t\u0041"},"z":1}"#,
            br#"{"a":{"t":"x","u":"y"},"z":1}"#,
            b"{\"a\":{\"t\":\"\n\"},\"z\":1}",
            b"{\"a\":{\"t\":\"\xff\"},\"z\":1}",
            br#"{"a":{"t":"},"z":1}"#,
        ] {
            assert_eq!(read(other), None, "{}", String::from_utf8_lossy(other));
        }
        let copy = String::from("one");
        template.learn(b"{}", &copy, Kind::Text);
        assert!(template.read(document).is_some(), "a copy has no place");
        template.forget();
        assert_eq!(template.read(document), None);
    }
}
