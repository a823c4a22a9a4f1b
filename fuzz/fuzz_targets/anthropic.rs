//! Answers in the Anthropic dialect: no panic, and the same events however the bytes are cut.
//! The first four bytes say how.

#![no_main]

#[expect(dead_code, reason = "each target uses a part of this module")]
#[path = "../../crates/llm/tests/decode/checks.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;
use lyceum_llm::Dialect;

fuzz_target!(|bytes: &[u8]| {
    let (lengths, body) = bytes.split_at(bytes.len().min(4));
    checks::same_however_cut(Dialect::Anthropic, body, lengths);
});
