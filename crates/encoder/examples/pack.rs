//! Makes the crate's weights from a folder of the published model:
//! `cargo run -p lyceum-encoder --example pack -- FOLDER OUT.gguf`.
//!
//! Word vectors become 4 bits a number and the layers' matrices 8, each with a scale for 32
//! numbers; what is one-dimensional stays as it is. The pooler is left out, as nothing uses it.

use std::{env, error::Error, fs::File, io::BufWriter, path::Path};

use candle_core::{
    DType, Device,
    quantized::{GgmlDType, QTensor, gguf_file},
    safetensors,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(folder), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: pack FOLDER OUT.gguf".into());
    };
    let all = safetensors::load(Path::new(&folder).join("model.safetensors"), &Device::Cpu)?;
    let mut packed = Vec::new();
    for (name, tensor) in all {
        if name.contains("pooler") || name.contains("position_ids") {
            continue;
        }
        let format = match tensor.rank() {
            2 if name.contains("word_embeddings") => GgmlDType::Q4_0,
            2 => GgmlDType::Q8_0,
            _ => GgmlDType::F32,
        };
        let tensor = QTensor::quantize(&tensor.to_dtype(DType::F32)?, format)?;
        packed.push((name, tensor));
    }
    packed.sort_by(|a, b| a.0.cmp(&b.0));
    let named: Vec<(&str, &QTensor)> = packed.iter().map(|(name, one)| (&**name, one)).collect();
    let architecture = gguf_file::Value::String("bert".to_owned());
    let license = gguf_file::Value::String("apache-2.0".to_owned());
    let about = [
        ("general.architecture", &architecture),
        ("general.license", &license),
    ];
    gguf_file::write(&mut BufWriter::new(File::create(out)?), &about, &named)?;
    Ok(())
}
