//! Embeddings as they are asked for and answered.
//!
//! Source: OpenAI API reference, "Embeddings". Deliberately absent: texts as token
//! numbers, whose meaning depends on a tokenizer that the server may not have.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use lyceum_core::{EmbedKind, Embeddings};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    catalog::Lent,
    compat::{invalid, put},
    error::ApiError,
    whole,
};

/// The most texts of one request, which is OpenAI's own limit.
const MOST_TEXTS: usize = 2_048;

/// The body of a request. Other fields, such as `user`, change nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct EmbedIn {
    pub(crate) model: String,
    input: Value,
    encoding_format: Option<Encoding>,
    #[serde(default, deserialize_with = "whole::optional")]
    dimensions: Option<usize>,
    /// What the texts are for, which OpenAI has no word for.
    input_type: Option<Kind>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Document,
    Query,
}

/// How the vectors are to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    encoding: Encoding,
    /// How many of each vector's numbers, where not all are wanted.
    shortened: Option<usize>,
}

impl EmbedIn {
    /// Checks the rules that types cannot say.
    pub(crate) fn check(self, lent: &Lent) -> Result<(Vec<Arc<str>>, EmbedKind, Form), ApiError> {
        let whole = lent.embedder.dimensions();
        let shortened = match self.dimensions {
            None => None,
            Some(wanted) if wanted == whole => None,
            Some(wanted) if lent.shortens && (1..whole).contains(&wanted) => Some(wanted),
            Some(_) if lent.shortens => {
                return Err(invalid("dimensions", &format!("it must be 1 to {whole}")));
            }
            Some(_) => {
                let only = format!("this model's vectors have {whole} numbers: leave it out");
                return Err(invalid("dimensions", &only));
            }
        };
        let form = Form {
            encoding: self.encoding_format.unwrap_or_default(),
            shortened,
        };
        let kind = match self.input_type.unwrap_or_default() {
            Kind::Document => EmbedKind::Document,
            Kind::Query => EmbedKind::Query,
        };
        Ok((texts(self.input)?, kind, form))
    }
}

fn texts(input: Value) -> Result<Vec<Arc<str>>, ApiError> {
    let inputs = match input {
        Value::Array(inputs) => inputs,
        one => vec![one],
    };
    if inputs.is_empty() || inputs.len() > MOST_TEXTS {
        let found = inputs.len();
        let detail = format!("it has {found} texts: 1 to {MOST_TEXTS} are allowed");
        return Err(invalid("input", &detail));
    }
    let text = |(at, input)| match input {
        Value::String(text) if text.is_empty() => {
            Err(invalid(&format!("input[{at}]"), "it is empty"))
        }
        Value::String(text) => Ok(Arc::from(text)),
        Value::Number(_) | Value::Array(_) => Err(invalid(
            "input",
            "token numbers are not understood here: send the texts",
        )),
        _ => Err(invalid("input", "it must be a text or a list of texts")),
    };
    inputs.into_iter().enumerate().map(text).collect()
}

/// Writes vectors in the order of their texts.
pub(crate) fn embeddings(model: &str, answer: &Embeddings, form: Form) -> Bytes {
    let numbers: usize = answer.vectors.iter().map(|vector| vector.len()).sum();
    let mut out = BytesMut::with_capacity(256 + 12 * numbers);
    out.put_slice(b"{\"object\":\"list\",\"data\":[");
    for (at, vector) in answer.vectors.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(b"{\"object\":\"embedding\",\"index\":");
        put(&mut out, &at);
        out.put_slice(b",\"embedding\":");
        match form.shortened {
            Some(wanted) => write(&shortened(vector, wanted), form.encoding, &mut out),
            None => write(vector, form.encoding, &mut out),
        }
        out.put_u8(b'}');
    }
    out.put_slice(b"],\"model\":");
    put(&mut out, model);
    let used = answer.usage.input.0;
    out.put_slice(b",\"usage\":{\"prompt_tokens\":");
    put(&mut out, &used);
    out.put_slice(b",\"total_tokens\":");
    put(&mut out, &used);
    out.put_slice(b"}}");
    out.freeze()
}

/// The first numbers of a vector, scaled to length one.
fn shortened(vector: &[f32], wanted: usize) -> Vec<f32> {
    let first = &vector[..wanted.min(vector.len())];
    let length = first
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
    first.iter().map(|number| number * scale).collect()
}

fn write(vector: &[f32], encoding: Encoding, out: &mut BytesMut) {
    match encoding {
        Encoding::Float => put(out, vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
            put(out, &*STANDARD.encode(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one() {
        assert_eq!(shortened(&[3.0, 4.0, 12.0], 2), [0.6, 0.8]);
        assert_eq!(shortened(&[0.0, 0.0, 1.0], 2), [0.0, 0.0]);
    }
}
