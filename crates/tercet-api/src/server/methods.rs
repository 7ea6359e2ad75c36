//! The `Allow` header of a 405 response ([RFC 9110 section
//! 15.5.6](https://www.rfc-editor.org/rfc/rfc9110#name-405-method-not-allowed)).

use http::header::ALLOW;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::state::Settings;
use crate::response::{Response, relation_methods, routine_methods};
use crate::schema::SchemaCache;

/// Adds `Allow` with the methods of the requested resource, unless SQL has set the header.
pub(super) fn allow(settings: &Settings, parts: &Parts, response: &mut Response) {
    if response.headers.contains_key(ALLOW) {
        return;
    }
    let schemas = settings.config.db_schemas.iter().map(String::as_str);
    // The requested schema first, then the others.
    let named = ["content-profile", "accept-profile"]
        .into_iter()
        .filter_map(|name| parts.headers.get(name)?.to_str().ok());
    let requested = named.filter(|name| settings.config.db_schemas.iter().any(|schema| schema == name));
    let methods = settings.cache.as_deref().and_then(|cache| {
        requested.chain(schemas).find_map(|schema| methods(cache, schema, parts.uri.path()))
    });
    response.allow(methods.as_deref().unwrap_or("OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"));
}

fn methods(cache: &SchemaCache, schema: &str, path: &str) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    match decoded.strip_prefix('/')?.split_once('/') {
        Some(("rpc", routine)) => {
            let overloads = cache.routines(schema, routine);
            (!overloads.is_empty()).then(|| routine_methods(overloads.iter().map(|it| &**it)).to_owned())
        }
        Some(_) => None,
        None if &*decoded == "/" => Some("OPTIONS,GET,HEAD".to_owned()),
        None => cache.relation(schema, &decoded[1..]).map(|relation| relation_methods(relation)),
    }
}
