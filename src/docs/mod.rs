//! HTML pages: an API reference that can send requests, and a page for each error code. All files are embedded in the
//! binary.

pub mod assets;
pub mod entry;
pub mod handlers;
pub mod pages;
