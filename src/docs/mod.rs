//! The pages for people: a reference that can send requests, and a page for each error. Everything
//! they are made of is in the binary.

pub mod assets;
pub mod entry;
pub mod handlers;
pub mod pages;
