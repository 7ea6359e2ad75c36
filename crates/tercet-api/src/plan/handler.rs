//! Content negotiation: which of the accepted media types can be made, and how.

use super::{Planner, ReadNode};
use crate::error::{ApiError, RequestError};
use crate::request::media_type::MediaType;
use crate::schema::{MediaHandler, MediaTarget, QualifiedName};

/// How a body is made of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// It is not made.
    None,
    /// A JSON array; one object or value for a routine that returns one.
    Json,
    /// The same without keys whose value is null.
    JsonStripped,
    /// One JSON object.
    Singular {
        /// Without keys whose value is null.
        nulls_stripped: bool,
    },
    /// CSV with a header.
    Csv,
    /// A GeoJSON feature collection, by PostGIS.
    GeoJson,
    /// By a function a person wrote.
    Custom(MediaHandler),
}

impl Planner<'_> {
    pub(super) fn negotiate(
        self,
        target: &QualifiedName,
        tree: &ReadNode,
    ) -> Result<(Handler, MediaType), ApiError> {
        let whole = tree.selects_everything();
        self.request
            .accept
            .iter()
            .find_map(|accepted| self.handler(accepted, target, whole))
            .ok_or_else(|| self.not_acceptable())
    }

    pub(super) fn not_acceptable(self) -> ApiError {
        RequestError::MediaType(self.request.accept.iter().map(name).collect()).into()
    }

    fn handler(
        self,
        accepted: &MediaType,
        target: &QualifiedName,
        whole: bool,
    ) -> Option<(Handler, MediaType)> {
        match accepted {
            // What has parameters of its own can't be overridden.
            MediaType::Singular { nulls_stripped } => {
                Some((Handler::Singular { nulls_stripped: *nulls_stripped }, accepted.clone()))
            }
            MediaType::ArrayStripped => Some((Handler::JsonStripped, accepted.clone())),
            MediaType::Plan { .. } if !self.policy.execution_plans => None,
            MediaType::Plan { of, .. } => {
                self.handler(of, target, whole).map(|(handler, _)| (handler, accepted.clone()))
            }
            other => self.custom(other, target, whole).or_else(|| built_in(other)),
        }
    }

    fn custom(
        self,
        accepted: &MediaType,
        target: &QualifiedName,
        whole: bool,
    ) -> Option<(Handler, MediaType)> {
        let name = name(accepted).to_ascii_lowercase();
        let own = MediaTarget::Named(target.clone());
        let of_target = |media_type: &str| self.cache.media_handler(&own, media_type).filter(|_| whole);
        let handler = of_target("*/*")
            .or_else(|| of_target(&name))
            .or_else(|| self.cache.media_handler(&MediaTarget::Any, &name))?;
        Some((Handler::Custom(handler.clone()), named(&handler.answered)))
    }
}

fn built_in(accepted: &MediaType) -> Option<(Handler, MediaType)> {
    match accepted {
        MediaType::Any | MediaType::Json => Some((Handler::Json, MediaType::Json)),
        MediaType::Csv => Some((Handler::Csv, MediaType::Csv)),
        MediaType::GeoJson => Some((Handler::GeoJson, MediaType::GeoJson)),
        _ => None,
    }
}

/// What a media type is called, without parameters.
fn name(media_type: &MediaType) -> String {
    match media_type {
        MediaType::Json => "application/json",
        MediaType::GeoJson => "application/geo+json",
        MediaType::Csv => "text/csv",
        MediaType::PlainText => "text/plain",
        MediaType::Xml => "text/xml",
        MediaType::OpenApi => "application/openapi+json",
        MediaType::Form => "application/x-www-form-urlencoded",
        MediaType::OctetStream => "application/octet-stream",
        MediaType::Any => "*/*",
        MediaType::ArrayStripped => "application/vnd.pgrst.array+json;nulls=stripped",
        MediaType::Singular { .. } => "application/vnd.pgrst.object+json",
        MediaType::Plan { .. } => "application/vnd.pgrst.plan",
        MediaType::Other(other) => other,
    }
    .to_owned()
}

/// The media type of that name.
fn named(name: &str) -> MediaType {
    match name {
        "application/json" => MediaType::Json,
        "application/geo+json" => MediaType::GeoJson,
        "text/csv" => MediaType::Csv,
        "text/plain" => MediaType::PlainText,
        "text/xml" => MediaType::Xml,
        "application/openapi+json" => MediaType::OpenApi,
        "application/x-www-form-urlencoded" => MediaType::Form,
        "application/octet-stream" => MediaType::OctetStream,
        other => MediaType::Other(other.to_owned()),
    }
}
