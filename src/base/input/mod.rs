//! Values that clients send, and the schema that validates them.

pub mod email;
pub mod limit;
pub mod metadata;
pub mod net;
pub mod page;
pub mod patch;
pub mod schema;
pub mod text;
