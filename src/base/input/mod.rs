//! Values that clients and operators send: texts, email addresses, networks, pages and limits. [`schema`] validates
//! bodies and query strings.

pub mod email;
pub mod limit;
pub mod metadata;
pub mod net;
pub mod page;
pub mod patch;
pub mod schema;
pub mod text;
