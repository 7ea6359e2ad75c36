//! A chunked body ends at the same byte with the same result, in any division into reads.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::chunked_body(bytes));
