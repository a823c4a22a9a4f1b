//! Files that are no usable models: each a clear error, never a panic that escapes.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails fails its test"
)]

mod common;

use std::{fs, path::Path};

use candle_core::quantized::gguf_file::Value;
use common::{Tiny, answer, ask};
use lyceum_core::Tokens;
use lyceum_llm_local::{LocalConfig, LocalModel, OpenError};

fn refused(path: &Path) -> OpenError {
    match LocalModel::open(path, LocalConfig::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// The error of a tiny model after a change.
fn changed(change: impl FnOnce(&mut Tiny)) -> OpenError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let mut tiny = Tiny::new();
    change(&mut tiny);
    tiny.write(&path);
    refused(&path)
}

/// Where the tensors of a tiny model begin: they are all in F32.
fn header_bytes(whole: &[u8]) -> usize {
    let tensors = Tiny::new().tensors;
    let padded = |bytes: usize| bytes.next_multiple_of(32);
    let data: usize = tensors
        .iter()
        .map(|(_, tensor)| padded(tensor.storage_size_in_bytes()))
        .sum();
    whole.len() - data
}

#[test]
fn what_is_no_gguf_file_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refused(&folder.path().join("no-such.gguf"));
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    assert!(missing.to_string().contains("no-such.gguf"));
    let directory = refused(folder.path());
    assert!(
        matches!(directory, OpenError::NotAFile { .. }),
        "{directory}"
    );
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("short", b"GG"),
        ("text", b"# A model card, not a model"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::NotGguf { .. }), "{error}");
    }
}

#[test]
fn what_the_file_lacks_is_named() {
    let error = changed(|tiny| tiny.set("general.architecture", Value::String("rwkv".into())));
    assert!(matches!(error, OpenError::Unsupported { .. }));
    assert!(error.to_string().contains("\"rwkv\""), "{error}");

    let error = changed(|tiny| tiny.set("llama.expert_count", Value::U32(8)));
    assert!(error.to_string().contains("experts"), "{error}");

    let error = changed(|tiny| tiny.remove("tokenizer.ggml.model"));
    assert!(matches!(error, OpenError::Tokenizer { .. }), "{error}");

    let error = changed(|tiny| tiny.remove("tokenizer.ggml.merges"));
    assert!(error.to_string().contains("merges"), "{error}");

    let error = changed(|tiny| tiny.remove("tokenizer.chat_template"));
    assert!(matches!(error, OpenError::ChatTemplate { .. }), "{error}");

    let error = changed(|tiny| tiny.remove("llama.context_length"));
    assert!(
        error.to_string().contains("llama.context_length"),
        "{error}"
    );

    let error = changed(|tiny| {
        tiny.tensors
            .retain(|(name, _)| name != "blk.1.ffn_up.weight");
    });
    assert!(error.to_string().contains("blk.1.ffn_up.weight"), "{error}");
}

#[test]
fn contradictions_are_damage() {
    let damaged: [fn(&mut Tiny); 6] = [
        |tiny| tiny.set("general.alignment", Value::U32(0)),
        |tiny| tiny.set("llama.attention.head_count", Value::U32(u32::MAX)),
        |tiny| tiny.set("llama.attention.head_count_kv", Value::U32(3)),
        |tiny| tiny.set("llama.feed_forward_length", Value::U32(128)),
        |tiny| tiny.set("llama.block_count", Value::U32(3)),
        |tiny| {
            tiny.set(
                "llama.attention.layer_norm_rms_epsilon",
                Value::F32(f32::NAN),
            );
        },
    ];
    for (at, change) in damaged.into_iter().enumerate() {
        let error = changed(change);
        assert!(matches!(error, OpenError::Damaged { .. }), "{at}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Tiny::new().write(&path);
    let whole = fs::read(&path).unwrap();
    let header = header_bytes(&whole);
    let lengths = (4..header)
        .step_by(7)
        .chain((header..whole.len()).step_by(4_999));
    for length in lengths {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refused(&path);
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn dimensions_whose_product_overflows_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Tiny::new().write(&path);
    let mut bytes = fs::read(&path).unwrap();
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name);
    // The number of dimensions and the first of them come before the second.
    let second = at.unwrap() + name.len() + 4 + 8;
    bytes[second..second + 8].copy_from_slice(&(1_u64 << 58).to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = refused(&path);
    assert!(error.to_string().contains("token_embd.weight"), "{error}");
}

#[tokio::test]
async fn flipped_bytes_of_the_header_give_an_error_or_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Tiny::new().write(&path);
    let whole = fs::read(&path).unwrap();
    let header = header_bytes(&whole);
    // Every byte of the numbers and of the tensors' descriptions, some of the long lists.
    let lists = (1_000..header - 1_500).step_by(29);
    let places = (4..1_000).chain(lists).chain(header - 1_500..header);
    let (mut opened, mut refused) = (0, 0);
    for (turn, at) in places.enumerate() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xFF][turn % 3];
        fs::write(&path, &bytes).unwrap();
        match LocalModel::open(&path, LocalConfig::default()) {
            Err(_) => refused += 1,
            Ok(model) => {
                opened += 1;
                let mut request = ask("hello");
                request.max_output = Some(Tokens(2));
                answer(&model, request).await;
            }
        }
    }
    assert!(
        opened > 100 && refused > 100,
        "{opened} opened, {refused} refused"
    );
}
