//! Requests: callers as types, other ways to send, and checks of the responses.

pub mod browser;
pub mod console;
pub mod contract;
pub mod document;
pub mod https;
pub mod identity;
pub mod raw;
pub mod reply;
pub mod stream;
