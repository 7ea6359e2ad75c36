//! A client that has what was flushed of a compressed body decodes all of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/front.rs"]
mod front;

fuzz_target!(|bytes: &[u8]| front::compression(bytes));
