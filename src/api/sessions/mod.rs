//! Sessions: created by a sign-in, for the backend of a dashboard. A session has access to every project of its user,
//! with the scopes of the user's role in each.

pub mod handlers;
pub mod links;
pub mod model;
pub mod reauthentication;
pub mod repo;
pub mod sign_in;

use crate::{base::action::Action, tx::Change};
use model::IssuedSession;

/// The change of an issued session.
pub fn created_change(session: &IssuedSession) -> Change {
    Change::new(Action::SessionCreated, session.id, None).created(&session.view).with("user", &session.user)
}
