//! Users, their sessions, and projects.

mod enumeration;
mod expired;
mod projects;
mod purges;
mod sessions;
mod sign_in;
mod users;
