//! What is presented as a token, and what an issuer of tokens answers with.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::token(bytes);
    fuzzing::key_set(bytes);
});
