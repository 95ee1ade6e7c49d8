//! Users: people, known by their e-mail address, who are members of projects in a role. A user is
//! visible to a project exactly when they are its member.

pub mod handlers;
pub mod model;
pub mod repo;
