//! What a client sends over a connection without TLS, whole: heads, bodies, chunks, HTTP/2
//! frames, and what is asked next while an event stream is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::connection(bytes));
