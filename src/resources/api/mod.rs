//! `/v1/resources`, `/v1/operations`, `/v1/providers` and `/v1/schemas`. [`rules`] has the preconditions of writes, and
//! [`submit`] what all of them share.

pub mod event_schemas;
pub mod handlers;
pub mod import;
pub mod input;
pub mod model;
pub mod operations;
pub mod providers;
pub mod rules;
pub mod submit;
