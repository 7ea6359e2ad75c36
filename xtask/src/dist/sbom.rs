//! The software bill of materials, in CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>).

use serde_json::{Value, json};

use super::licences::Dependency;

/// The document.
pub(super) fn document(version: &str, dependencies: &[Dependency]) -> Vec<u8> {
    let component = |dependency: &Dependency| {
        let url = format!("pkg:cargo/{}@{}", dependency.name, dependency.version);
        let mut component = json!({
            "type": "library",
            "bom-ref": url,
            "name": dependency.name,
            "version": dependency.version,
            "purl": url,
        });
        if let Some(licence) = &dependency.license {
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        component
    };
    let components: Vec<Value> = dependencies.iter().map(component).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "tercet",
                "name": "tercet",
                "version": version,
                "licenses": [{ "expression": "MIT" }],
            },
        },
        "components": components,
    });
    format!("{document:#}\n").into_bytes()
}
