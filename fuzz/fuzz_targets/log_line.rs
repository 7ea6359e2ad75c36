//! A log line stays one line for any request: no input closes its quotes or ends it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tercet_observe::format::{push_escaped, push_json_string};

fuzz_target!(|value: &[u8]| {
    let mut text = Vec::new();
    push_escaped(&mut text, value);
    assert!(text.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"'));

    let mut json = Vec::new();
    push_json_string(&mut json, value);
    assert!(!json.iter().any(|byte| byte.is_ascii_control()));
    let parsed: String = serde_json::from_slice(&json).expect("what we wrote is JSON");
    assert_eq!(parsed, String::from_utf8_lossy(value));
});
