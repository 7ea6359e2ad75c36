//! Tier 2: the data API: request, plan, query, transaction, response.

pub mod request;
