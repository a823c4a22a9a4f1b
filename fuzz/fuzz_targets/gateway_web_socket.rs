//! A text message over a WebSocket.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::web_socket(bytes));
