//! The vocabulary everything else is written in; it knows no HTTP, no SQL statement and no slice.

pub mod action;
pub mod caller;
pub mod clock;
pub mod credential;
pub mod email;
pub mod error;
pub mod hex;
pub mod id;
pub mod intent;
pub mod lifecycle;
pub mod limit;
pub mod metadata;
pub mod need;
pub mod net;
pub mod page;
pub mod period;
pub mod request;
pub mod role;
pub mod schema;
pub mod scope;
pub mod secret;
pub mod server_key;
pub mod subject;
pub mod tenant;
pub mod text;
