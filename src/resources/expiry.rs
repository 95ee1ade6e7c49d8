//! Deletes resources whose time to live has ended, so that resources of a failed pipeline do not remain.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    lifecycle::{OperationType, Phase},
    model::{Condition, ConditionType, ResourceView, StoredResource},
    queue::{self, Begun},
    repo, rows, rules,
};
use crate::{
    base::{
        action::Action,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
        id::ResourceId,
        request::RequestContext,
    },
    state::App,
    tx::Change,
};

/// Maximum number of resources per run.
const BATCH: i64 = 100;
/// Time limit of the database work for one resource.
const LONGEST: Duration = Duration::from_secs(15);
/// Delay before the next attempt to delete a resource that is in use or being changed.
const LATER: Duration = Duration::from_secs(2);

/// Runs until the server stops.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let mut is_well = true;
    while heartbeat.pause(app.cloud.pace.expiry).await {
        if !app.lifecycle.is_open() {
            continue;
        }
        let expired = expire(&app, &heartbeat).await;
        if let Err(error) = &expired {
            app.db.note(error);
        }
        if let (Err(error), true) = (&expired, is_well) {
            tracing::warn!(%error, "deletion of expired resources failed; it is retried");
        }
        is_well = expired.is_ok();
    }
}

async fn expire(app: &App, heartbeat: &Heartbeat) -> Result<()> {
    let listed = async { Ok(rows::expiring(&mut *app.db.acquire_for_write().await?, app.clock.now(), BATCH).await?) };
    for id in in_time(listed).await? {
        heartbeat.progress();
        in_time(expire_one(app, id)).await?;
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the deletion is retried"));
    timeout(LONGEST, work).await.unwrap_or_else(late)
}

async fn expire_one(app: &App, id: ResourceId) -> Result<()> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(&Arc::new(RequestContext::system())).await?;
    // The lock blocks new references to the resource.
    let Some(resource) = rows::lock_to_delete(tx.db(), id).await? else { return Ok(()) };
    let is_due = !resource.protection && resource.expires_at.is_some_and(|end| end <= now);
    let project = Some(resource.project_id);
    if !is_due || resource.phase == Phase::Deleted {
        return Ok(());
    }
    let has_object = resource.provider_ref.is_some();
    if repo::operations::under_way(tx.db(), id).await?.is_some()
        || !resource.phase.admits(OperationType::Delete, has_object)
    {
        rows::expire_later(tx.db(), id, now.plus(LATER), None).await?;
        return tx.commit_unchanged(()).await;
    }
    let users = repo::dependents(tx.db(), id).await?;
    if !users.is_empty() {
        let conditions = in_use(&resource, &users, now);
        rows::expire_later(tx.db(), id, now.plus(LATER), Some(&conditions)).await?;
        return tx.commit_unchanged(()).await;
    }
    let begun = Begun { kind: OperationType::Delete, at: now, give_up_after: app.cloud.pace.give_up_after };
    let after = queue::start(tx.db(), &resource, &begun).await?;
    // If the deletion fails, it is retried then.
    rows::expire_later(tx.db(), id, now.plus(app.cloud.pace.longest_pause), None).await?;
    let change = Change::new(Action::ResourceExpired, id, project)
        .updated(&ResourceView::from(resource), &ResourceView::from(after));
    tx.commit(change, ()).await?;
    app.cloud.wake.notify_one();
    Ok(())
}

/// Conditions of an expired resource that is in use and cannot be deleted yet.
fn in_use(resource: &StoredResource, users: &[ResourceId], now: crate::base::clock::Timestamp) -> Vec<Condition> {
    let known = resource.conditions.iter().find(|condition| condition.kind == ConditionType::Expired);
    let others = resource.conditions.iter().filter(|condition| condition.kind != ConditionType::Expired).cloned();
    let expired = Condition {
        kind: ConditionType::Expired,
        reason: "in_use".into(),
        message: format!(
            "The time to live has ended; the resource is deleted as soon as it is no longer used by {}",
            rules::listed(users)
        ),
        since: known.map_or(now, |condition| condition.since),
        difference: None,
    };
    others.chain([expired]).collect()
}
