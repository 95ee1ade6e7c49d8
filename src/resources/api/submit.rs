//! Common part of all writes on resources: a change of the row, an operation, and the response.

use std::sync::Arc;

use sqlx::PgConnection;

use super::{
    input::{AcceptedOperation, DryRun, Plan},
    model::{Before, ResourceView, StoredOperation, StoredResource},
    rules::{self, ReferenceCheck},
};
use crate::{
    audit::model::{difference, members},
    base::{
        action::Action,
        error::{Code, Error, Result},
        etag::{EntityTag, Versioned},
        id::OperationId,
        identity::tenant::Tenant,
        runtime::request::RequestContext,
    },
    db::violated_constraint,
    http::response::{Accepted, Json, Submitted},
    resources::{
        ResourceContext,
        drivers::{driver::ActionType, registry::Provider},
        engine::lifecycle::OperationType,
        kinds::spec::Spec,
        store::{self, ResourceChange, operations::OperationRow},
    },
    tx::{Change, Idempotent, IdempotentTx},
};

/// Response to a write on a resource.
pub type WriteResponse = Submitted<AcceptedOperation, DryRun>;

/// Change of an existing resource.
#[derive(Debug)]
pub struct ChangeRequest {
    /// Type of the operation.
    pub kind: OperationType,
    /// New desired state, if it changes.
    pub spec: Option<Spec>,
    /// Other changes of the row.
    pub change: ResourceChange,
    /// Whether the operation needs a call to the provider.
    pub requires_provider: bool,
    /// Requested action, if any.
    pub action: Option<ActionType>,
}

/// Write that is not committed yet.
#[derive(Debug)]
pub struct Draft {
    /// Resource before the write; `None` if it is new.
    pub before: Option<StoredResource>,
    /// Resource after the write.
    pub after: StoredResource,
    /// Operation that executes the write.
    pub operation: StoredOperation,
    /// Whether the operation needs a call to the provider.
    pub requires_provider: bool,
    /// Change to record in the audit trail.
    pub change: Change,
}

/// Inserts an operation on a resource that the transaction has locked or created.
pub async fn insert_operation(
    context: &ResourceContext,
    request: &Arc<RequestContext>,
    db: &mut PgConnection,
    resource: &StoredResource,
    (kind, before, requires_provider): (OperationType, Before, bool),
) -> Result<StoredOperation> {
    let row = OperationRow {
        id: OperationId::new(),
        kind,
        before,
        is_done: !requires_provider,
        operation_timeout: context.cloud.timing.operation_timeout.as_secs_f64(),
        traceparent: request.trace.to_string(),
        created_at: context.clock.now(),
    };
    // A worker may have started an operation since the check.
    store::operations::insert(db, resource, row).await.map_err(|error| match violated_constraint(&error) {
        Some("operations_one_open") => {
            let detail = format!(
                "An operation on {} has just started; find it with GET /v1/operations?resource_id={}, wait for it, then retry",
                resource.id, resource.id
            );
            Error::new(Code::ResourceLocked, detail)
        }
        _ => error.into(),
    })
}

/// Changes the row of a resource that the transaction has locked, and inserts the operation.
pub async fn apply_change(
    context: &ResourceContext,
    request: &Arc<RequestContext>,
    db: &mut PgConnection,
    before: StoredResource,
    requested: ChangeRequest,
) -> Result<Draft> {
    let ChangeRequest { kind, spec, mut change, requires_provider, action } = requested;
    let origin = Before {
        phase: Some(before.phase),
        spec: spec.is_some().then(|| before.spec.0.clone()),
        desired_power: before.desired_power,
    };
    change.spec = spec.as_ref().map(Spec::to_json);
    change.phase = requires_provider.then(|| before.phase.during(kind));
    let after = store::update(db, before.id, change).await?;
    if let Some(spec) = &spec {
        store::replace_references(db, after.id, spec).await.map_err(|error| match violated_constraint(&error) {
            Some("resource_references_volume_once") => attached_elsewhere(),
            _ => error.into(),
        })?;
    }
    let operation = insert_operation(context, request, db, &after, (kind, origin, requires_provider)).await?;
    let audit_action = match kind {
        OperationType::Delete => Action::ResourceDeletionRequested,
        _ => Action::ResourceUpdateRequested,
    };
    let (old_view, new_view) = (ResourceView::from(before.clone()), ResourceView::from(after.clone()));
    let change = Change::new(audit_action, after.id, Some(after.project_id)).updated(&old_view, &new_view);
    let change = change.with("operation_id", operation.id);
    let change = match action {
        Some(action) => change.with("action", action),
        None => change,
    };
    Ok(Draft { before: Some(before), after, operation, requires_provider, change })
}

fn attached_elsewhere() -> Error {
    Error::new(Code::ResourceInUse, "A volume has just been attached to another instance; detach it first")
}

/// Checks that a resource may change to `spec`, as far as that does not depend on other resources. Errors about member
/// `m` point to `at(m)`.
pub fn require_supported_change(
    provider: &Provider,
    before: &Spec,
    spec: &Spec,
    at: impl Fn(&str) -> String,
) -> Result<()> {
    rules::require_changeable(provider, before, spec, &at)?;
    rules::require_supported_spec(provider, spec, &at)
}

/// Checks the references of the new spec.
pub async fn require_references(
    db: &mut PgConnection,
    (tenant, provider): (Tenant, &Provider),
    (resource, before): (&StoredResource, &Spec),
    spec: &Spec,
    at: impl Fn(&str) -> String,
) -> Result<()> {
    let referring = ReferenceCheck { tenant, provider, current: Some((resource.id, before)) };
    referring.require(db, spec, at).await
}

/// Commits the write, or returns its plan if the request is a dry run.
pub async fn commit_or_plan(
    context: &ResourceContext,
    tx: IdempotentTx,
    draft: Draft,
    is_dry_run: bool,
) -> Result<Idempotent<WriteResponse>> {
    let request = Arc::clone(tx.request());
    if is_dry_run {
        return Ok(tx.discard(dry_run_response(&request, draft)));
    }
    let requires_provider = draft.requires_provider;
    let change = draft.change.clone();
    let response =
        tx.commit(change, accepted_response(&request, draft.after.etag(), draft.after, draft.operation)).await?;
    if requires_provider {
        context.cloud.wake.notify_one();
    }
    Ok(response)
}

/// Creates the response to an accepted write. `etag` belongs to the item that was written.
pub fn accepted_response(
    request: &RequestContext,
    etag: EntityTag,
    resource: StoredResource,
    operation: StoredOperation,
) -> WriteResponse {
    let location = format!("/v1/operations/{}", operation.id);
    let body = AcceptedOperation { resource: resource.into(), operation: operation.into(), request_id: request.id };
    Submitted::Accepted(Accepted { location, etag, body })
}

/// Creates the response to a dry run.
pub fn dry_run_response(request: &RequestContext, draft: Draft) -> WriteResponse {
    let after = ResourceView::from(draft.after);
    let before = draft.before.map(ResourceView::from);
    let changes = before.map(|before| difference(members(&before), members(&after))).unwrap_or_default();
    let plan =
        Plan { kind: draft.operation.kind, requires_provider: draft.requires_provider, resource: after, changes };
    Submitted::DryRun(Json(DryRun { plan, request_id: request.id }))
}
