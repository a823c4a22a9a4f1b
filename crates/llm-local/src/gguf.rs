//! A GGUF file on disk: checked header, typed metadata, tensors of an expected shape.
//!
//! Parsing is candle's. What is added here is distrust: the header is read from a
//! bounded buffer, every tensor must lie inside the file before any is loaded, and a
//! tensor is only handed out in the shape its caller expects, because candle's
//! kernels trust shapes. Deliberately absent: knowledge of any architecture.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::{
        QTensor,
        gguf_file::{Content, Value},
    },
};

use crate::OpenError;

/// The longest header read, in bytes. Headers of models with 256,000 tokens are
/// about 15 MiB; the bound also caps what absurd array lengths can make candle allocate.
const HEADER_LIMIT_BYTES: u64 = 48 << 20;

const MAGIC: &[u8] = b"GGUF";

/// An open GGUF file whose tensors are known to lie inside it.
pub(crate) struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Missing {
                path: path.to_owned(),
            },
            _ => OpenError::Io {
                path: path.to_owned(),
                source,
            },
        };
        // Asked before opening, because opening a pipe would wait for its writer.
        let about = std::fs::metadata(path).map_err(io_error)?;
        if !about.is_file() {
            return Err(OpenError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mut file = File::open(path).map_err(io_error)?;
        let mut header = Vec::new();
        (&mut file)
            .take(HEADER_LIMIT_BYTES)
            .read_to_end(&mut header)
            .map_err(io_error)?;
        if !header.starts_with(MAGIC) {
            return Err(OpenError::NotGguf {
                path: path.to_owned(),
            });
        }
        let damaged = |detail: String| OpenError::Damaged {
            path: path.to_owned(),
            detail,
        };
        // candle 0.11 panics on some contradictory headers, e.g. an alignment of zero.
        let content = catch_unwind(AssertUnwindSafe(|| {
            Content::read(&mut Cursor::new(&header))
        }))
        .map_err(|_| damaged("its header contradicts itself".into()))?
        .map_err(|error| damaged(first_line(&error)))?;
        for (name, info) in &content.tensor_infos {
            let end = extent_bytes(info.shape.dims(), info.ggml_dtype)
                .and_then(|size| size.checked_add(info.offset))
                .and_then(|end| end.checked_add(content.tensor_data_offset));
            if end.is_none_or(|end| end > about.len()) {
                return Err(damaged(format!(
                    "the tensor {name} reaches beyond the file's {} bytes",
                    about.len()
                )));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            content,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.content.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Option<u64> {
        integer(self.content.metadata.get(key)?)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f32> {
        match self.content.metadata.get(key)? {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.content.metadata.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The texts of an array; `None` when there is no such array or it holds anything else.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<&str>> {
        self.array(key, |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(crate) fn integers(&self, key: &str) -> Option<Vec<u64>> {
        self.array(key, integer)
    }

    pub(crate) fn numbers(&self, key: &str) -> Option<Vec<f32>> {
        self.array(key, |value| match value {
            Value::F32(number) => Some(*number),
            _ => None,
        })
    }

    fn array<'a, T>(&'a self, key: &str, each: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
        match self.content.metadata.get(key)? {
            Value::Array(values) => values.iter().map(each).collect(),
            _ => None,
        }
    }

    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The dimensions of a tensor, the slowest first.
    pub(crate) fn dims(&self, name: &str) -> Option<&[usize]> {
        Some(self.content.tensor_infos.get(name)?.shape.dims())
    }

    /// The number of weights in the file.
    pub(crate) fn parameters(&self) -> u64 {
        let infos = self.content.tensor_infos.values();
        infos.map(|info| info.shape.elem_count() as u64).sum()
    }

    /// Reads a tensor that must have the given dimensions.
    pub(crate) fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<QTensor, OpenError> {
        match self.dims(name) {
            Some(found) if found == dims => {}
            Some(found) => {
                let detail = format!("the tensor {name} is {found:?} where {dims:?} is expected");
                return Err(self.damaged(detail));
            }
            None => return Err(self.damaged(format!("the tensor {name} is missing"))),
        }
        self.content
            .tensor(&mut self.file, name, &Device::Cpu)
            .map_err(|error| self.damaged(first_line(&error)))
    }

    pub(crate) fn damaged(&self, detail: String) -> OpenError {
        OpenError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }
}

fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::U8(n) => Some((*n).into()),
        Value::U16(n) => Some((*n).into()),
        Value::U32(n) => Some((*n).into()),
        Value::U64(n) => Some(*n),
        Value::I8(n) => (*n).try_into().ok(),
        Value::I16(n) => (*n).try_into().ok(),
        Value::I32(n) => (*n).try_into().ok(),
        Value::I64(n) => (*n).try_into().ok(),
        _ => None,
    }
}

/// The bytes a tensor takes; `None` when its dimensions are absurd or no whole blocks.
fn extent_bytes(dims: &[usize], dtype: candle_core::quantized::GgmlDType) -> Option<u64> {
    let count = dims
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
    if !count.is_multiple_of(dtype.block_size()) {
        return None;
    }
    let size = (count / dtype.block_size()).checked_mul(dtype.type_size())?;
    size.try_into().ok()
}

/// candle's errors may carry a backtrace; people need the first line.
pub(crate) fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
