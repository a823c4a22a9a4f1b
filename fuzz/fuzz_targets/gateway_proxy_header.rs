//! What a proxy says in front of a connection: the PROXY protocol, versions 1 and 2.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::proxy_header(bytes));
