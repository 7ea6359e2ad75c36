//! Any method, target, headers and body are a request, or a client error that can be written as JSON.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tercet_api::error::{ApiError, Verbosity};
use tercet_api::request::{ApiRequest, Rules};
use tercet_api::schema::SchemaCache;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: Method,
    relation: &'a str,
    query: &'a str,
    accept: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    prefer: Option<&'a [u8]>,
    range: Option<&'a [u8]>,
    body: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Method {
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
}

fuzz_target!(|input: Input<'_>| {
    let method = format!("{:?}", input.method).to_uppercase();
    let uri = format!("/{}?{}", input.relation, input.query);
    let mut request = http::Request::builder().method(&*method).uri(uri);
    for (name, value) in [
        ("accept", input.accept),
        ("content-type", input.content_type),
        ("prefer", input.prefer),
        ("range", input.range),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let schemas = ["public".to_owned()];
    let rules = Rules {
        schemas: &schemas,
        root_routine: None,
        describes: true,
        transaction_override: true,
        time_zones: true,
        cache: &SchemaCache::default(),
    };
    if let Err(error) = ApiRequest::parse(&parts, input.body.to_vec().into(), rules) {
        let error = ApiError::from(error);
        assert!(error.status().is_client_error(), "{error:?}");
        serde_json::from_slice::<serde_json::Value>(&error.json(Verbosity::Verbose))
            .expect("errors are JSON");
    }
});
