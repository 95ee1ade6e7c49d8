//! Cloud resources: one shape for every kind, on every provider.
//!
//! A client says what shall be ([`spec`]), and is answered at once with an operation. Workers on every server
//! bring the provider to it, step by step, so that any of them may die at any moment: what is to be done next is
//! in the database before it is done, and what was made is found again by its tags. What is always true: a resource has one
//! operation under way at most, and one object at its provider at most once that has ended.

pub mod cloud;
pub mod config;
pub mod driver;
pub mod drivers;
pub mod engine;
pub mod expiry;
pub mod figures;
pub mod finding;
pub mod handlers;
pub mod input;
pub mod kind;
pub mod lifecycle;
pub mod machine;
pub mod model;
pub mod operations;
pub mod pace;
pub mod providers;
pub mod queue;
pub mod reconcile;
pub mod registry;
pub mod repo;
pub mod rows;
pub mod rules;
pub mod spec;
pub mod submit;
pub mod sweeps;
