//! Whatever a server sends as a head, its parts decide as its whole, and what is taken is the same written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::response_head(bytes));
