//! The query string, sorted into what its parameters mean.

use std::collections::BTreeSet;

use super::field::EmbedPath;
use super::filter::Filter;
use super::logic::LogicTree;
use super::order::OrderTerm;
use super::range::RowRange;
use super::select::SelectItem;

/// Everything a query string says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The query string with its parameters sorted by name and encoded anew, for `Content-Location`.
    pub canonical: String,
    /// `select=`, `*` when absent.
    pub select: Vec<SelectItem>,
    /// `column=operator.value` on the target.
    pub filters: Vec<Filter>,
    /// `relation.column=operator.value`
    pub embedded_filters: Vec<(EmbedPath, Filter)>,
    /// Names of all parameters that are filters, as written.
    pub filter_names: BTreeSet<String>,
    /// `and=`, `or=`, `relation.or=`, `not.and=` …
    pub logic: Vec<(EmbedPath, LogicTree)>,
    /// `order=`, `relation.order=`
    pub order: Vec<(EmbedPath, Vec<OrderTerm>)>,
    /// `limit=` and `offset=` of embedded relations; those of the target are in `ApiRequest::range`.
    pub embedded_ranges: Vec<(EmbedPath, RowRange)>,
    /// `columns=`
    pub columns: Option<BTreeSet<String>>,
    /// `on_conflict=`
    pub on_conflict: Option<Vec<String>>,
    /// Arguments of a routine called with `GET`: parameters whose value has no operator, in their order, repeated ones kept.
    pub arguments: Vec<(String, String)>,
}
