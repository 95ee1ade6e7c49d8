//! Deletes resources whose time to live has ended, so that resources of a failed pipeline do not remain.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::ResourceId,
        runtime::{heartbeat::Heartbeat, request::RequestContext},
    },
    db::pulse::Work,
    resources::{
        ResourceContext,
        api::{
            model::{Condition, ConditionType, ResourceView, StoredResource},
            rules,
        },
        engine::lifecycle::{OperationType, Phase},
        store::{
            self,
            queue::{self, NewOperation},
            rows,
        },
    },
    tx::Change,
};

/// Maximum number of resources per run.
const BATCH: i64 = 100;
/// Time limit of the database work for one resource.
const DB_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay before the next attempt to delete a resource that is in use or being changed.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Runs until the server stops.
pub async fn run(context: Arc<ResourceContext>, heartbeat: Heartbeat) {
    let mut is_healthy = true;
    while heartbeat.pause(context.cloud.timing.expiry_interval).await
        && heartbeat.pause_until(context.db.pulse().due(Work::Expiry)).await
    {
        if !context.lifecycle.has_started() {
            continue;
        }
        let expired = expire(&context, &heartbeat).await;
        if let Err(error) = &expired {
            context.db.handle_error(error);
        }
        if let (Err(error), true) = (&expired, is_healthy) {
            tracing::warn!(%error, "deletion of expired resources failed; it is retried");
        }
        is_healthy = expired.is_ok();
    }
}

async fn expire(context: &ResourceContext, heartbeat: &Heartbeat) -> Result<()> {
    let listed = async {
        Ok(rows::list_expired(&mut *context.db.acquire_for_write().await?, context.clock.now(), BATCH).await?)
    };
    for id in with_timeout(listed).await? {
        heartbeat.progress();
        with_timeout(expire_one(context, id)).await?;
    }
    Ok(())
}

async fn with_timeout<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let on_timeout =
        |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the deletion is retried"));
    timeout(DB_TIMEOUT, work).await.unwrap_or_else(on_timeout)
}

async fn expire_one(context: &ResourceContext, id: ResourceId) -> Result<()> {
    let now = context.clock.now();
    let mut tx = context.writes.begin(&Arc::new(RequestContext::system())).await?;
    // The lock blocks new references to the resource.
    let Some(resource) = rows::try_lock_for_deletion(tx.db(), id).await? else { return Ok(()) };
    let is_due = !resource.protection && resource.expires_at.is_some_and(|end| end <= now);
    let project = Some(resource.project_id);
    if !is_due || resource.phase == Phase::Deleted {
        return Ok(());
    }
    let has_object = resource.provider_ref.is_some();
    if store::operations::find_in_progress(tx.db(), id).await?.is_some()
        || !resource.phase.allows(OperationType::Delete, has_object)
    {
        rows::postpone_expiry(tx.db(), id, now.plus(RETRY_DELAY), None).await?;
        return tx.commit_unchanged(()).await;
    }
    let users = store::dependents(tx.db(), id).await?;
    if !users.is_empty() {
        let conditions = in_use(&resource, &users, now);
        rows::postpone_expiry(tx.db(), id, now.plus(RETRY_DELAY), Some(&conditions)).await?;
        return tx.commit_unchanged(()).await;
    }
    let new_operation = NewOperation {
        kind: OperationType::Delete,
        at: now,
        operation_timeout: context.cloud.timing.operation_timeout,
    };
    let after = queue::start_operation(tx.db(), &resource, &new_operation).await?;
    // If the deletion fails, it is retried then.
    rows::postpone_expiry(tx.db(), id, now.plus(context.cloud.timing.max_backoff), None).await?;
    let change = Change::new(Action::ResourceExpired, id, project)
        .updated(&ResourceView::from(resource), &ResourceView::from(after));
    tx.commit(change, ()).await?;
    context.cloud.wake.notify_one();
    Ok(())
}

/// Conditions of an expired resource that is in use and cannot be deleted yet.
fn in_use(
    resource: &StoredResource,
    users: &[ResourceId],
    now: crate::base::runtime::clock::Timestamp,
) -> Vec<Condition> {
    let known = resource.conditions.iter().find(|condition| condition.kind == ConditionType::Expired);
    let others = resource.conditions.iter().filter(|condition| condition.kind != ConditionType::Expired).cloned();
    let expired = Condition {
        kind: ConditionType::Expired,
        reason: "in_use".into(),
        message: format!(
            "The time to live has ended; the resource is deleted as soon as it is no longer used by {}",
            rules::join_ids(users)
        ),
        since: known.map_or(now, |condition| condition.since),
        difference: None,
    };
    others.chain([expired]).collect()
}
