//! Tokenizers of both kinds, from files with a vocabulary and nothing else.

use candle_core::quantized::gguf_file::{self, Value};

use super::*;
use crate::text::TextJoiner;

const NORMAL: i32 = 1;
const BYTE: i32 = 6;

fn texts<T: AsRef<str>>(texts: &[T]) -> Value {
    let text = |text: &T| Value::String(text.as_ref().to_owned());
    Value::Array(texts.iter().map(text).collect())
}

fn vocabulary(metadata: &[(&str, Value)]) -> Result<Vocabulary, OpenError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut file = std::fs::File::create(&path).unwrap();
    gguf_file::write(&mut file, &metadata, &[]).unwrap();
    Vocabulary::read(&Gguf::open(&path).unwrap())
}

/// All bytes, the merges of "▁the cat" spelt in bytes, two control tokens.
fn byte_level(scheme: &str) -> Vocabulary {
    let alphabet = byte_alphabet();
    let mut pieces: Vec<String> = alphabet.keys().map(|c| String::from(*c)).collect();
    pieces.sort();
    let merges = ["t h", "th e", "Ġ t", "Ġt h", "1 2", "c a"];
    pieces.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut types = vec![NORMAL; pieces.len()];
    pieces.extend(["<|im_start|>", "<|im_end|>"].map(str::to_owned));
    types.extend([CONTROL as i32; 2]);
    vocabulary(&[
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(scheme.into())),
        ("tokenizer.ggml.tokens", texts(&pieces)),
        ("tokenizer.ggml.merges", texts(&merges)),
        (
            "tokenizer.ggml.token_type",
            Value::Array(types.into_iter().map(Value::I32).collect()),
        ),
    ])
    .unwrap()
}

fn decoded(vocabulary: &Vocabulary, tokens: &[u32]) -> String {
    let mut joiner = TextJoiner::default();
    let pieces = tokens
        .iter()
        .map(|token| joiner.push(vocabulary.bytes(*token)));
    pieces.collect()
}

#[test]
fn any_text_survives_the_way_to_tokens_and_back() {
    let text = "the then\n\n  2012 naïve 你好，世界 🦉\tend \u{0} Ünïcödé'll  ";
    for scheme in ["smollm", "gpt-2", "llama-bpe", "qwen2", "of tomorrow"] {
        let vocabulary = byte_level(scheme);
        let tokens = vocabulary.encode(text).unwrap();
        assert_eq!(decoded(&vocabulary, &tokens), text, "{scheme}");
        assert!(tokens.len() < text.len(), "{scheme} merges something");
    }
}

#[test]
fn the_scheme_decides_how_digits_are_cut() {
    let count = |scheme: &str| byte_level(scheme).encode("12").unwrap().len();
    assert_eq!((count("smollm"), count("qwen2")), (2, 2));
    assert_eq!((count("gpt-2"), count("llama-bpe")), (1, 1));
}

#[test]
fn control_tokens_are_recognised_end_turns_and_can_be_disarmed() {
    let vocabulary = byte_level("smollm");
    let tokens = vocabulary.encode("<|im_start|>the<|im_end|>").unwrap();
    assert_eq!(tokens.len(), 3);
    assert!(vocabulary.ends_turn(tokens[2]) && !vocabulary.ends_turn(tokens[0]));
    assert_eq!(decoded(&vocabulary, &tokens), "the");
    let disarmed = vocabulary.disarm("a<|im_end|>b");
    assert_eq!(disarmed, "a< |im_end|>b");
    assert!(vocabulary.encode(&disarmed).unwrap().len() > 10);
}

#[test]
fn sentence_piece_prefers_the_better_score_and_falls_back_to_bytes() {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    let mut types = vec![UNKNOWN as i32, CONTROL as i32, CONTROL as i32];
    pieces.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
    types.extend([BYTE; 256]);
    let mut scores = vec![0.0; pieces.len()];
    // "ab" + "c" scores better than "a" + "bc", and both better than single letters.
    let words = ["▁", "a", "b", "c", "bc", "ab", "▁ab"];
    pieces.extend(words.map(str::to_owned));
    types.extend([NORMAL; 7]);
    scores.extend([-9.0, -9.0, -9.0, -9.0, -3.0, -2.0, -1.0]);
    let vocabulary = vocabulary(&[
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", texts(&pieces)),
        (
            "tokenizer.ggml.scores",
            Value::Array(scores.into_iter().map(Value::F32).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(types.into_iter().map(Value::I32).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ])
    .unwrap();
    let tokens = vocabulary.encode("abc é").unwrap();
    let spelt: Vec<&str> = tokens
        .iter()
        .map(|id| pieces[*id as usize].as_str())
        .collect();
    assert_eq!(spelt, ["<s>", "▁ab", "c", "▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(decoded(&vocabulary, &tokens), " abc é");
}

#[test]
fn a_vocabulary_that_cannot_end_a_turn_is_refused() {
    let error = vocabulary(&[
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.tokens", texts(&["a", "b"])),
        ("tokenizer.ggml.merges", texts::<&str>(&[])),
    ]);
    let Err(OpenError::Tokenizer { detail }) = error else {
        panic!("it was accepted");
    };
    assert!(detail.contains("ends a turn"), "{detail}");
}
