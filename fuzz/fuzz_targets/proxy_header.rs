//! A PROXY protocol header has the same result whole and in parts.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::proxy_header(bytes));
