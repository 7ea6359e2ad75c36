//! Content negotiation: the handler for the first accepted media type that is available.

use super::{Planner, ReadNode};
use crate::error::{ApiError, RequestError};
use crate::media_type::MediaType;
use crate::schema::{MediaHandler, MediaTarget, QualifiedName};

/// The handler that builds the body from rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// No body.
    None,
    /// A JSON array; one object or value for a routine that returns one.
    Json,
    /// JSON without null-valued keys.
    JsonStripped,
    /// One JSON object.
    Singular {
        /// Whether null-valued keys are omitted.
        nulls_stripped: bool,
    },
    /// CSV with a header line.
    Csv,
    /// A GeoJSON feature collection, built by PostGIS.
    GeoJson,
    /// A custom media type handler.
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
        RequestError::MediaType(self.request.accept.iter().map(ToString::to_string).collect()).into()
    }

    fn handler(
        self,
        accepted: &MediaType,
        target: &QualifiedName,
        whole: bool,
    ) -> Option<(Handler, MediaType)> {
        match accepted {
            // Media types with their own parameters cannot be overridden.
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
        let name = accepted.to_string().to_ascii_lowercase();
        let own = MediaTarget::Named(target.clone());
        let of_target = |media_type: &str| self.cache.media_handler(&own, media_type).filter(|_| whole);
        let handler = of_target("*/*")
            .or_else(|| of_target(&name))
            .or_else(|| self.cache.media_handler(&MediaTarget::Any, &name))?;
        Some((Handler::Custom(handler.clone()), MediaType::parse(&handler.answered)))
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
