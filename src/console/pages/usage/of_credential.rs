//! This month's requests of one key or token by route, for its page.

use super::breakdown::{Breakdown, By, call};
use crate::{
    base::{
        id::ProjectId,
        identity::{credential::CredentialId, scope::Scope},
        runtime::period::Period,
    },
    console::{browser::Visit, client::Fault},
};

/// Routes of the credential's own requests. `None` if the person may not read usage.
pub async fn of(visit: &Visit, project: ProjectId, credential: CredentialId) -> Result<Option<Breakdown>, Fault> {
    if !visit.scopes(project).await?.contains(Scope::UsageRead) {
        return Ok(None);
    }
    let call = call(visit, project, Period::of(visit.now.date()), "route");
    let call = match credential {
        CredentialId::Key(id) => call.query("key_id", id),
        CredentialId::Token(id) => call.query("token_id", id),
        // Requests of sessions are not counted by session.
        CredentialId::Session(_) => return Ok(None),
    };
    Breakdown::load(visit, project, By::Route, "Requests by route", call).await.map(Some)
}
