//! Any text is a configuration of the balancer whose backend pools and routes fit together, or a list of mistakes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target runs one of the properties")]
#[path = "../../crates/tercet-balancer/tests/it/properties/front.rs"]
mod front;

fuzz_target!(|text: &str| front::configuration(text));
