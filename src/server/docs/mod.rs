//! HTML pages: an API reference that can send requests, the guides, a page for each error code, and a search. All files
//! are embedded in the binary.

pub mod assets;
pub mod entry;
pub mod guides;
pub mod handlers;
pub mod openapi;
pub mod pages;
pub mod search;
