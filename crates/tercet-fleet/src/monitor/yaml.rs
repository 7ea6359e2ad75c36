//! Writes JSON values as YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Block-style YAML with the keys in alphabetical order, whose strings are JSON's: every JSON string is one of YAML's (YAML 1.2, section 1.3).
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(object) => {
            // The features of serde_json decide on the order otherwise, and another order would be a change to a machine.
            let sorted: BTreeMap<_, _> = object.iter().collect();
            for (place, (key, value)) in sorted.into_iter().enumerate() {
                // The first key follows the dash of its list.
                let after_dash = place == 0 && text.ends_with("- ");
                let indent = if after_dash { "" } else { &indent };
                if is_block(value) {
                    writeln!(text, "{indent}{key}:").expect(INFALLIBLE);
                    write(text, value, depth + 1);
                } else {
                    writeln!(text, "{indent}{key}: {value}").expect(INFALLIBLE);
                }
            }
        }
        Value::Array(array) => {
            for value in array {
                write!(text, "{indent}- ").expect(INFALLIBLE);
                if is_block(value) {
                    write(text, value, depth + 1);
                } else {
                    writeln!(text, "{value}").expect(INFALLIBLE);
                }
            }
        }
        scalar => writeln!(text, "{indent}{scalar}").expect(INFALLIBLE),
    }
}

/// Whether a value has lines of its own: an object, or a list of objects.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(array) => array.iter().any(is_block),
        _ => false,
    }
}

const INFALLIBLE: &str = "writing to a String cannot fail";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_objects_are_blocks_and_others_are_lines() {
        let value = json!({ "f": [], "a": [{ "b": "x: \"y\"", "c": [1, 2] }, { "d": { "e": true } }]});
        assert_eq!(yaml(&value), "a:\n  - b: \"x: \\\"y\\\"\"\n    c: [1,2]\n  - d:\n      e: true\nf: []\n");
    }
}
