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
        RequestError::MediaType(self.request.accept.iter().map(ToString::to_string).collect()).into()
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
