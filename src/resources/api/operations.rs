//! `/v1/operations`.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    handlers::readable_kinds,
    input::{OperationFilter, OperationWait},
    model::{OperationView, StoredOperation},
    submit::{WriteResponse, accepted_response},
};
use crate::{
    auth::grant::Grant,
    base::{
        action::Action,
        error::{Code, Error, Result},
        etag::Versioned,
        id::{self, OperationId},
        identity::{
            scope::of::{ResourcesRead, ResourcesWrite},
            tenant::Tenant,
        },
        input::page::ListQuery,
    },
    http::{
        layers::concurrency::Slot,
        request::extract::{EmptyRequest, JsonBody, PathId, Query},
        response::{List, WithEtag},
    },
    resources::{
        ResourceContext,
        engine::lifecycle::{OperationStatus, OperationType},
        store,
    },
    tx::{Change, Idempotent, begin_or_replay},
};

/// Minimum interval between two reads while a client waits for an operation.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum interval between two reads.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Lists operations of a project.
pub async fn list(
    grant: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    Query(query): Query<ListQuery<OperationFilter>>,
) -> Result<List<OperationView>> {
    let page = query.page()?;
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = store::list::operations(&mut db, tenant, &readable_kinds(tenant), &query.filter, &page).await?;
    Ok(List::new(page.map(OperationView::from), grant.request().id))
}

/// Gets an operation. With `wait`, responds when the operation has ended or the time is up.
pub async fn get(
    grant: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Operation>,
    Query(query): Query<OperationWait>,
    slot: Slot,
) -> Result<WithEtag<OperationView>> {
    let wait = Duration::from_secs(query.wait.unwrap_or_default().into());
    let mut sealed = context.sealing.last_sealed.subscribe();
    let (tenant, operation) = {
        let mut db = context.db.acquire().await?;
        let tenant = grant.in_project_of(&mut db, id).await?;
        let found = store::operations::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
        tenant.require(found.resource_kind.read_scope())?;
        (tenant, found.operation)
    };
    if wait.is_zero() || operation.status.is_final() {
        return Ok(WithEtag(operation.into()));
    }
    let waiting = wait_until_ended(&context, &mut sealed, (tenant, id), operation, Instant::now() + wait);
    Ok(WithEtag(slot.release_and_wait(wait, waiting).await??.into()))
}

/// Waits until an operation has ended, the time is up, or the server stops. It holds nothing meanwhile. It reads the
/// operation after an audit entry was sealed, which happens right after an operation ends, and at regular intervals.
async fn wait_until_ended(
    context: &ResourceContext,
    sealed: &mut tokio::sync::watch::Receiver<id::AuditId>,
    (tenant, id): (Tenant, OperationId),
    mut operation: StoredOperation,
    deadline: Instant,
) -> Result<StoredOperation> {
    let mut last_read = Instant::now();
    let mut is_last = false;
    while !operation.status.is_final() && !is_last {
        loop {
            sleep_until(deadline.min(Instant::now() + MIN_POLL_INTERVAL)).await;
            // When the server stops, it reads once more and responds, so that the client can ask another server.
            is_last = Instant::now() >= deadline || context.lifecycle.is_draining();
            // Whether an entry was sealed before this request or during the pause.
            let is_notified = timeout_at(Instant::now(), sealed.changed()).await.is_ok();
            if is_last || is_notified || last_read.elapsed() >= MAX_POLL_INTERVAL {
                break;
            }
        }
        last_read = Instant::now();
        let mut db = context.db.acquire().await?;
        // Operations are retained for weeks; if it was pruned nonetheless, it had ended.
        let Some(found) = store::operations::get(&mut db, tenant, id).await? else { return Err(Error::not_found()) };
        operation = found.operation;
    }
    Ok(operation)
}

/// Cancels an operation.
pub async fn cancel(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Operation>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<WriteResponse>> {
    let (mut tx, EmptyRequest {}) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let found = store::operations::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(found.resource_kind.write_scope())?;
    tx.require_match(&OperationView::from(found.operation))?;
    let requested = store::operations::request_cancel(tx.db(), id, context.cloud.timing.lease).await?;
    // The current state: the operation may have ended since.
    let operation = store::operations::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?.operation;
    let Some(is_new) = requested else { return Err(not_cancelable(&operation)) };
    let resource = store::get(tx.db(), tenant, operation.resource_id).await?.ok_or_else(Error::not_found)?;
    let change = Change::new(Action::OperationCancelRequested, id, Some(tenant.project_id()))
        .with("resource_id", operation.resource_id)
        .with("type", operation.kind);
    let etag = OperationView::from(operation.clone()).etag();
    let reply = accepted_response(grant.request(), etag, resource, operation);
    let response = if is_new { tx.commit(change, reply).await? } else { tx.commit_unchanged(reply).await? };
    context.cloud.wake.notify_one();
    Ok(response)
}

fn not_cancelable(operation: &StoredOperation) -> Error {
    let detail = match (operation.kind, operation.status) {
        (OperationType::Delete, OperationStatus::Queued | OperationStatus::Running) => format!(
            "{} deletes a resource, has started and cannot be undone; wait for it, then create the resource again",
            operation.id
        ),
        (_, status) => format!(
            "{} is over ({}) and cannot be canceled; start another operation to revert it",
            operation.id,
            status.as_str()
        ),
    };
    Error::new(Code::InvalidState, detail)
}
