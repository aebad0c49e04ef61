//! HTTP without resources: parameters, bodies, answers, errors, routes.

pub mod body;
pub mod cors;
pub mod error;
pub mod gzip;
pub mod idempotency;
pub mod list;
pub mod query;
pub mod rendered;
pub mod reply;
pub mod route;
pub mod shape;
pub mod version;

pub use error::ApiError;
pub use query::Query;
pub use reply::Reply;
