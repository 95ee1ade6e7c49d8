//! This month's requests of one key by route, for the page of the key.

use super::breakdown::{Breakdown, By, call};
use crate::{
    base::{
        id::{KeyId, ProjectId},
        identity::scope::Scope,
        runtime::period::Period,
    },
    console::{browser::Visit, client::Fault},
};

/// Routes of the key's requests. `None` if the person may not read usage.
pub async fn of(visit: &Visit, project: ProjectId, key: KeyId) -> Result<Option<Breakdown>, Fault> {
    if !visit.scopes(project).await?.contains(Scope::UsageRead) {
        return Ok(None);
    }
    let call = call(visit, project, Period::of(visit.now.date()), "route").query("key_id", key);
    Breakdown::load(visit, project, By::Route, "Requests by route", call).await.map(Some)
}
