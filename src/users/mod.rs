//! Users: people, known by their e-mail address, who are members of projects in a role. A user is
//! visible to a project exactly when they are its member.

pub mod acceptance;
pub mod handlers;
pub mod invitations;
pub mod model;
pub mod repo;
