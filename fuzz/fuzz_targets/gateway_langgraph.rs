//! A request of the LangGraph API: query, body, and the texts in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lyceum_gateway::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::langgraph(bytes));
