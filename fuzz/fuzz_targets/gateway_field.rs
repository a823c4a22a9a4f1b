//! The value of a field of a request: addresses, event ids, keys of idempotency, tickets and others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::field(bytes));
