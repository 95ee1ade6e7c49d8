//! Cloud resources: one API for every kind, on every provider.
//!
//! A client states the desired state ([`spec`]) and immediately receives an operation. Workers on every server bring
//! the provider to that state, step by step. A worker may die at any moment: each step is stored before it runs, and
//! objects that a dead worker created are found by their tags.
//!
//! Invariants: a resource has at most one operation in progress, and once that operation has ended, at most one object
//! at its provider.

pub mod cloud;
pub mod config;
pub mod drift;
pub mod driver;
pub mod drivers;
pub mod engine;
pub mod expiry;
pub mod handlers;
pub mod input;
pub mod kind;
pub mod lifecycle;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod operations;
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
pub mod timing;
