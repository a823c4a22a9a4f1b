//! OpenAI's embeddings format, with vectors that follow from the text.
//!
//! A vector is the normalised sum of one direction per word (hashing), so that texts which
//! share words are near each other and equal texts are equal. Source: OpenAI API
//! reference, "Embeddings". Deliberately absent: meaning.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Problem, content::Content, to_json};
use crate::{random::mix, tokens};

/// The vendor's own limit of dimensions is below it.
const MAX_DIMENSIONS: usize = 4_096;
/// The vendor's limit of inputs in one request.
const MAX_INPUTS: usize = 2_048;

#[derive(Deserialize)]
struct Request {
    model: String,
    input: Content<String>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Option<Encoding>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

#[derive(Serialize)]
struct Response<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// A request for embeddings, checked.
pub(crate) struct Texts {
    pub(crate) model: String,
    pub(crate) input_tokens: u64,
    inputs: Vec<String>,
    dimensions: usize,
    encoding: Encoding,
}

/// Reads a request body.
pub(crate) fn read(body: &[u8], default_dimensions: usize) -> Result<Texts, Problem> {
    let request: Request = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid(format!("We could not parse the request: {error}")))?;
    let inputs = match request.input {
        Content::Text(text) => vec![text],
        Content::Blocks(texts) => texts,
    };
    if inputs.is_empty() || inputs.len() > MAX_INPUTS || inputs.iter().any(String::is_empty) {
        return Err(Problem::about(
            "input",
            "'input' must be 1 to 2048 texts, none empty.",
        ));
    }
    let dimensions = request.dimensions.unwrap_or(default_dimensions);
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(Problem::about(
            "dimensions",
            "'dimensions' must be 1 to 4096.",
        ));
    }
    Ok(Texts {
        model: request.model,
        input_tokens: inputs.iter().map(|text| tokens::count(text)).sum(),
        inputs,
        dimensions,
        encoding: request.encoding_format.unwrap_or(Encoding::Float),
    })
}

/// The answer to a request.
pub(crate) fn body(texts: &Texts) -> Bytes {
    let data = texts.inputs.iter().enumerate().map(|(index, text)| Item {
        object: "embedding",
        index,
        embedding: encode(vector(text, texts.dimensions), texts.encoding),
    });
    to_json(&Response {
        object: "list",
        data: data.collect(),
        model: &texts.model,
        usage: Usage {
            prompt_tokens: texts.input_tokens,
            total_tokens: texts.input_tokens,
        },
    })
}

fn encode(vector: Vec<f32>, encoding: Encoding) -> Vector {
    match encoding {
        Encoding::Float => Vector::Float(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    }
}

/// The unit vector of a text.
#[expect(
    clippy::cast_precision_loss,
    reason = "24 bits fit a float's mantissa exactly"
)]
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    for word in words(text) {
        let mut state = word
            .bytes()
            .fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        for value in &mut sum {
            state = mix(state);
            *value += (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
        }
    }
    let length = sum
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|x| *x /= length);
    sum
}

/// Runs of ASCII letters and digits in lower case, and every other letter by itself.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(|run| run.split_inclusive(|c: char| !c.is_ascii()))
        .flat_map(|run| {
            let ascii = run.find(|c: char| !c.is_ascii()).unwrap_or(run.len());
            [run[..ascii].to_ascii_lowercase(), run[ascii..].to_owned()]
        })
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (vector(a, 384), vector(b, 384));
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn texts_that_share_words_are_near() {
        assert!((cosine("Plants make sugar", "plants make sugar!") - 1.0).abs() < 1e-5);
        assert!(cosine("plants make sugar", "plants make oxygen") > 0.5);
        assert!(cosine("plants make sugar", "interest on loans").abs() < 0.3);
        assert!(cosine("光合作用", "光合作用的过程") > 0.5);
    }
}
