//! Projects: what keys, tokens and members belong to, and where the walls between tenants stand.
//! Whoever makes a project owns it.

pub mod handlers;
pub mod model;
pub mod repo;
