//! An accepted path has one reading, and the route that is selected for it is the one of that reading.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/front.rs"]
mod front;

fuzz_target!(|bytes: &[u8]| front::route(bytes));
