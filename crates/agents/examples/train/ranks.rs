//! How common English words are, from the order of the vocabulary of the encoder's tokenizer,
//! which lists the more common ones first.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

/// The last rank of each grade but the last.
const GRADES: [usize; 3] = [2_500, 6_000, 12_000];

/// Writes the table; says whether it is another one than was compiled in.
pub(crate) fn write(from: &Path, to: &Path) -> Result<bool> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let file: serde_json::Value = serde_json::from_str(&text)?;
    let vocabulary = file["model"]["vocab"]
        .as_object()
        .context("it has no vocabulary")?;
    let mut words: Vec<(u64, &str)> = vocabulary
        .iter()
        .filter(|(word, _)| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .filter_map(|(word, id)| Some((id.as_u64()?, word.as_str())))
        .collect();
    words.sort_unstable();
    let mut grades = vec![BTreeSet::new(); GRADES.len() + 1];
    for (rank, (_, word)) in words.iter().enumerate() {
        let grade = GRADES.iter().filter(|last| rank >= **last).count();
        grades[grade].insert(short_hash(word));
    }
    let mut table = Vec::new();
    for grade in &grades {
        table.extend((grade.len() as u32).to_le_bytes());
    }
    for hash in grades.iter().flatten() {
        table.extend(&hash.to_le_bytes()[..3]);
    }
    let changed = fs::read(to).ok().as_ref() != Some(&table);
    if changed {
        fs::write(to, table)?;
    }
    Ok(changed)
}

/// FNV-1a (draft-eastlake-fnv), folded to 24 bits.
fn short_hash(word: &str) -> u32 {
    let full = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (full >> 8) ^ (full & 0xff)
}
