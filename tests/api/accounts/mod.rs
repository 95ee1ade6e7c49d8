//! Users, their sessions, and projects.

mod console_sessions;
mod enumeration;
mod expired;
mod projects;
mod purges;
mod sessions;
mod sign_in;
mod sign_in_links;
mod users;
