//! Users: people, identified by their email address, who are members of projects with a role. A project can see exactly
//! the users who are its members.

pub mod acceptance;
pub mod event_schemas;
pub mod handlers;
pub mod invitations;
pub mod model;
pub mod password;
pub mod profile;
pub mod repo;
