//! A request head has the same result whole and in parts, and an accepted head is the same after it is serialised.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::request_head(bytes));
