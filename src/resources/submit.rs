//! What all writes on resources have in common: a change of the row, an operation beside it, and one answer.

use std::sync::Arc;

use axum::response::IntoResponse;
use sqlx::PgConnection;

use super::{
    driver::ActionType,
    input::{AcceptedOperation, DryRun, Plan},
    lifecycle::OperationType,
    model::{Before, ResourceView, StoredOperation, StoredResource},
    registry::Provider,
    repo::{self, ResourceChange, operations::OperationRow},
    rules::{self, Referring},
    spec::Spec,
};
use crate::{
    audit::model::{difference, members},
    base::{
        action::Action,
        error::{Code, Error, Result},
        etag::{EntityTag, Versioned},
        id::OperationId,
        request::RequestContext,
        tenant::Tenant,
    },
    db::violated_constraint,
    http::reply::{Accepted, Json, Submitted},
    state::App,
    tx::{Change, Once, OnceTx},
};

/// What a write on a resource answers.
pub type Written = Submitted<AcceptedOperation, DryRun>;

/// What is to be done to a resource that is there.
#[derive(Debug)]
pub struct Step {
    /// What.
    pub kind: OperationType,
    /// What is asked for from now on, if that is something else than before.
    pub spec: Option<Spec>,
    /// What else changes of the row.
    pub change: ResourceChange,
    /// Whether the provider has something to do.
    pub requires_provider: bool,
    /// The action that was asked for, if it was one.
    pub action: Option<ActionType>,
}

/// What was written and is not committed.
#[derive(Debug)]
pub struct Draft {
    /// How the resource stood, if it was there.
    pub before: Option<StoredResource>,
    /// How it stands.
    pub after: StoredResource,
    /// What will be done to it.
    pub operation: StoredOperation,
    /// Whether the provider has something to do.
    pub requires_provider: bool,
    /// What is told of it.
    pub change: Change,
}

/// Adds an operation on a resource that the transaction has locked or made.
pub async fn begin(
    app: &App,
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
        give_up_after: app.cloud.pace.give_up_after.as_secs_f64(),
        traceparent: request.trace.to_string(),
        created_at: app.clock.now(),
    };
    // What the server does by itself may have begun since it was looked.
    repo::operations::insert(db, resource, row).await.map_err(|error| match violated_constraint(&error) {
        Some("operations_one_open") => {
            let detail = format!(
                "An operation on {} has just begun; find it with GET /v1/operations?resource_id={}, wait for it, and send this again",
                resource.id, resource.id
            );
            Error::new(Code::ResourceLocked, detail)
        }
        _ => error.into(),
    })
}

/// Changes the row of a resource that the transaction has locked, and says what will be done to it.
pub async fn change(
    app: &App,
    request: &Arc<RequestContext>,
    db: &mut PgConnection,
    before: StoredResource,
    step: Step,
) -> Result<Draft> {
    let Step { kind, spec, mut change, requires_provider, action } = step;
    let origin = Before {
        phase: Some(before.phase),
        spec: spec.is_some().then(|| before.spec.0.clone()),
        desired_power: before.desired_power,
    };
    change.spec = spec.as_ref().map(Spec::to_json);
    change.phase = requires_provider.then(|| before.phase.during(kind));
    let after = repo::update(db, before.id, change).await?;
    if let Some(spec) = &spec {
        repo::refer(db, after.id, spec).await.map_err(|error| match violated_constraint(&error) {
            Some("resource_references_volume_once") => attached_elsewhere(),
            _ => error.into(),
        })?;
    }
    let operation = begin(app, request, db, &after, (kind, origin, requires_provider)).await?;
    let told = match kind {
        OperationType::Delete => Action::ResourceDeletionRequested,
        _ => Action::ResourceUpdateRequested,
    };
    let (was, is) = (ResourceView::from(before.clone()), ResourceView::from(after.clone()));
    let change = Change::new(told, after.id, Some(after.project_id)).updated(&was, &is);
    let change = change.with("operation_id", operation.id);
    let change = match action {
        Some(action) => change.with("action", action),
        None => change,
    };
    Ok(Draft { before: Some(before), after, operation, requires_provider, change })
}

fn attached_elsewhere() -> Error {
    Error::new(Code::ResourceInUse, "A volume has just been attached to another instance; detach it there first")
}

/// Whether a resource may become what `spec` asks for, as far as that can be said without asking whether others are in
/// the way. What is said of member `m` is put at `at(m)`.
pub fn require_possible(provider: &Provider, before: &Spec, spec: &Spec, at: impl Fn(&str) -> String) -> Result<()> {
    rules::require_changeable(provider, before, spec, &at)?;
    rules::require_possible(provider, spec, &at)
}

/// Whether it may refer to what it then refers to.
pub async fn require_references(
    db: &mut PgConnection,
    (tenant, provider): (Tenant, &Provider),
    (resource, before): (&StoredResource, &Spec),
    spec: &Spec,
    at: impl Fn(&str) -> String,
) -> Result<()> {
    let referring = Referring { tenant, provider, known: Some((resource.id, before)) };
    referring.require(db, spec, at).await
}

/// Makes what was written last and has it done; or, if it was only to be tried, says what it would have been.
pub async fn finish(app: &App, tx: OnceTx, draft: Draft, is_rehearsal: bool) -> Result<Once<Written>> {
    let request = Arc::clone(tx.request());
    if is_rehearsal {
        // The transaction is given up, and with it the claim of an `Idempotency-Key`.
        return Ok(Once::kept(planned(&request, draft).into_response()));
    }
    let requires_provider = draft.requires_provider;
    let change = draft.change.clone();
    let answer = tx.commit(change, accepted(&request, draft.after.etag(), draft.after, draft.operation)).await?;
    if requires_provider {
        app.cloud.wake.notify_one();
    }
    Ok(answer)
}

/// The answer to what was accepted. `etag` is that of the item that was written to, or made.
pub fn accepted(
    request: &RequestContext,
    etag: EntityTag,
    resource: StoredResource,
    operation: StoredOperation,
) -> Written {
    let location = format!("/v1/operations/{}", operation.id);
    let body = AcceptedOperation { resource: resource.into(), operation: operation.into(), request_id: request.id };
    Submitted::Accepted(Accepted { location, etag, body })
}

/// The response to a dry run.
pub fn planned(request: &RequestContext, draft: Draft) -> Written {
    let after = ResourceView::from(draft.after);
    let before = draft.before.map(ResourceView::from);
    let changes = before.map(|before| difference(members(&before), members(&after))).unwrap_or_default();
    let plan =
        Plan { kind: draft.operation.kind, requires_provider: draft.requires_provider, resource: after, changes };
    Submitted::DryRun(Json(DryRun { plan, request_id: request.id }))
}
