//! `/v1/resources`.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use serde_json::Value;

use super::{
    input::{DryRunQuery, NewResource, ResourceAction, ResourceFilter, ResourcePatch, SyncRequest, spec_faults},
    model::{Before, ConditionType, ResourceView, StoredResource},
    rules::{self, ReferenceCheck},
    submit::{
        ChangeRequest, Draft, WriteResponse, accepted_response, apply_change, commit_or_plan, dry_run_response,
        insert_operation, require_references, require_supported_change,
    },
};
use crate::{
    auth::grant::Grant,
    base::{
        action::Action,
        error::{Code, Error, ItemCode, Result},
        etag::Versioned,
        id::{self, ResourceId},
        identity::{
            scope::of::{ResourcesRead, ResourcesWrite},
            tenant::Tenant,
        },
        input::page::ListQuery,
        runtime::clock::Timestamp,
    },
    http::{
        request::extract::{JsonBody, PathId, Query},
        response::{List, WithEtag},
    },
    resources::{
        ResourceContext,
        drivers::driver::ActionType,
        engine::lifecycle::{OperationType, Phase},
        kinds::{Kind, Power, spec::Spec},
        store::{self, ResourceChange, ResourceRow},
    },
    tx::{Change, Idempotent, begin_or_replay},
};

/// Kinds that the caller may read.
pub(crate) fn readable_kinds(tenant: Tenant) -> Vec<Kind> {
    Kind::ALL.iter().copied().filter(|kind| tenant.scopes().contains(kind.read_scope())).collect()
}

/// Expiry time for a time to live in seconds.
fn expiry_time(now: Timestamp, seconds: u32) -> Timestamp {
    now.plus(Duration::from_secs(seconds.into()))
}

/// Place of a spec member in a body with a `spec`.
fn spec_pointer(member: &str) -> String {
    format!("/spec/{member}")
}

/// Creates a resource.
pub async fn create(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    Query(query): Query<DryRunQuery>,
    body: JsonBody<NewResource>,
) -> Result<Idempotent<WriteResponse>> {
    let now = context.clock.now();
    let mut tx = context.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_for_write(tx.db(), body.project_id()?).await?;
    let (mut tx, NewResource(new)) = begin_or_replay!(tx.begin_idempotent(body).await?);
    tenant.require(new.kind.write_scope())?;
    let provider = rules::select_provider(&context.cloud.providers, new.provider.as_deref())?;
    rules::require_kind(provider, new.kind)?;
    let spec: Spec = Spec::from_json(new.kind, Value::Object(new.spec))
        .map_err(|error| Error::invalid_member("/spec", ItemCode::InvalidFormat, error.to_string()))?;
    rules::require_supported_spec(provider, &spec, spec_pointer)?;
    tenant.require_active()?;
    ReferenceCheck { tenant, provider, current: None }.require(tx.db(), &spec, spec_pointer).await?;
    rules::reserve_quota(tx.db(), tenant, new.kind).await?;
    let row = ResourceRow {
        id: ResourceId::new(),
        kind: new.kind,
        provider: provider.name.clone(),
        name: new.name,
        labels: new.labels.unwrap_or_default(),
        spec: spec.to_json(),
        desired_power: new.kind.has_power().then_some(Power::On),
        provider_ref: None,
        protection: new.protection.unwrap_or_default(),
        reconcile: new.reconcile.unwrap_or_default(),
        expires_at: new.ttl_seconds.map(|seconds| expiry_time(now, seconds)),
        created_at: now,
    };
    let resource = store::insert(tx.db(), tenant, row).await?;
    store::replace_references(tx.db(), resource.id, &spec).await?;
    let draft =
        creation_draft(&context, &grant, &mut tx, resource, (OperationType::Create, Action::ResourceCreated)).await?;
    commit_or_plan(&context, tx, draft, query.is_requested()).await
}

/// Creates the draft of a new resource.
pub(super) async fn creation_draft(
    context: &ResourceContext,
    grant: &Grant<ResourcesWrite>,
    tx: &mut crate::tx::IdempotentTx,
    resource: StoredResource,
    (kind, action): (OperationType, Action),
) -> Result<Draft> {
    let before = Before { phase: Some(resource.phase), ..Before::default() };
    let operation = insert_operation(context, grant.request(), tx.db(), &resource, (kind, before, true)).await?;
    let view = ResourceView::from(resource.clone());
    let change = Change::new(action, resource.id, Some(resource.project_id)).created(&view);
    Ok(Draft { before: None, after: resource, operation, requires_provider: true, change })
}

/// Lists resources of a project, of the kinds that the caller may read.
pub async fn list(
    grant: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    Query(query): Query<ListQuery<ResourceFilter>>,
) -> Result<List<ResourceView>> {
    let page = query.page()?;
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let kinds = match query.filter.kind {
        Some(kind) => {
            tenant.require(kind.read_scope())?;
            vec![kind]
        }
        None => readable_kinds(tenant),
    };
    let page = store::list::resources(&mut db, tenant, &kinds, &query.filter, &page).await?;
    Ok(List::new(page.map(ResourceView::from), grant.request().id))
}

/// Gets a resource.
pub async fn get(
    grant: Grant<ResourcesRead>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Resource>,
) -> Result<WithEtag<ResourceView>> {
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let resource = store::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(resource.kind.read_scope())?;
    Ok(WithEtag(resource.into()))
}

/// Updates a resource.
pub async fn update(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Resource>,
    Query(query): Query<DryRunQuery>,
    body: JsonBody<ResourcePatch>,
) -> Result<Idempotent<WriteResponse>> {
    let (mut tx, patch) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let before = store::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(before.kind.write_scope())?;
    let new_spec = patch.spec.0.map(|changes| merge_spec(&before, changes)).transpose()?;
    let new_spec = new_spec.filter(|(old, new)| old != new);
    let provider = rules::provider_of(&context.cloud.providers, &before);
    if let (Some((old, new)), Ok(provider)) = (&new_spec, &provider) {
        require_supported_change(provider, old, new, spec_pointer)?;
    }
    tx.require_match(&before)?;
    tenant.require_active()?;
    rules::require_unlocked(tx.db(), &before).await?;
    let (name, labels) = (patch.name.0, patch.labels.change_or_default());
    let changes_tags = name.as_ref().is_some_and(|name| *name != before.name)
        || labels.as_ref().is_some_and(|labels| *labels != before.labels.0);
    // A resource that does not match its spec is converged once more.
    let is_outdated = before.phase == Phase::Failed || before.observed_generation < before.generation;
    let requires_provider = new_spec.is_some() || changes_tags || (is_outdated && before.provider_ref.is_some());
    if requires_provider || matches!(before.phase, Phase::Deleting | Phase::Deleted) {
        rules::require_phase(&before, OperationType::Update)?;
    }
    if let Some((old, new)) = &new_spec {
        require_references(tx.db(), (tenant, provider?), (&before, old), new, spec_pointer).await?;
    } else if requires_provider {
        provider?;
    }
    let change_of_row = ResourceChange {
        name,
        labels,
        protection: patch.protection.0,
        reconcile: patch.reconcile.0,
        expires_at: patch
            .ttl_seconds
            .change_or_default()
            .map(|seconds| (seconds > 0).then(|| expiry_time(context.clock.now(), seconds))),
        ..ResourceChange::default()
    };
    let requested = ChangeRequest {
        kind: OperationType::Update,
        spec: new_spec.map(|(_, new)| new),
        change: change_of_row,
        requires_provider,
        action: None,
    };
    let draft = apply_change(&context, grant.request(), tx.db(), before, requested).await?;
    commit_or_plan(&context, tx, draft, query.is_requested()).await
}

/// Returns the current spec, and the spec after the members in `changes` are applied.
fn merge_spec(before: &StoredResource, changes: serde_json::Map<String, Value>) -> Result<(Spec, Spec)> {
    let old = spec_of(before)?;
    let mut members = before.spec.0.clone();
    if let Value::Object(members) = &mut members {
        // Keep null, so that the schema decides whether the member may be cleared.
        members.extend(changes);
    }
    let faults = spec_faults(before.kind, &members);
    if !faults.is_empty() {
        return Err(Error::validation(faults));
    }
    let new = Spec::from_json(before.kind, members)
        .map_err(|error| Error::invalid_member("/spec", ItemCode::InvalidFormat, error.to_string()))?;
    Ok((old, new))
}

fn spec_of(resource: &StoredResource) -> Result<Spec> {
    resource.spec().map_err(|error| {
        let detail = format!("The spec of {} is not known yet; sync the resource, or delete it", resource.id);
        Error::new(Code::InvalidState, detail).caused_by(error)
    })
}

/// Runs an action on a resource.
pub async fn act(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Resource>,
    Query(query): Query<DryRunQuery>,
    body: JsonBody<ResourceAction>,
) -> Result<Idempotent<WriteResponse>> {
    let (mut tx, requested) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    requested.require_valid()?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let before = store::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(before.kind.write_scope())?;
    let provider = rules::provider_of(&context.cloud.providers, &before)?;
    rules::require_action(provider, before.kind, requested.action)?;
    let old = spec_of(&before)?;
    let (new, at) = requested.apply_to(&old)?;
    require_supported_change(provider, &old, &new, &at)?;
    tx.require_match(&before)?;
    tenant.require_active()?;
    rules::require_unlocked(tx.db(), &before).await?;
    let (kind, desired_power) = requested.operation();
    rules::require_phase(&before, kind)?;
    require_valid_state(&requested, &before, &old, &new)?;
    require_references(tx.db(), (tenant, provider), (&before, &old), &new, &at).await?;
    let change_of_row = ResourceChange { desired_power, ..ResourceChange::default() };
    let spec = (new != old).then_some(new);
    let requires_provider =
        spec.is_some() || desired_power.is_some() || kind == OperationType::Reboot || before.phase == Phase::Failed;
    let requested =
        ChangeRequest { kind, spec, change: change_of_row, requires_provider, action: Some(requested.action) };
    let draft = apply_change(&context, grant.request(), tx.db(), before, requested).await?;
    commit_or_plan(&context, tx, draft, query.is_requested()).await
}

/// Checks that an action is possible in the resource's current state.
fn require_valid_state(requested: &ResourceAction, before: &StoredResource, old: &Spec, new: &Spec) -> Result<()> {
    let detail = match (requested.action, requested.volume) {
        (ActionType::Reboot, _) if before.desired_power == Some(Power::Off) => {
            format!("{} is off and cannot be rebooted; start it", before.id)
        }
        (ActionType::Detach, Some(volume)) if old == new => {
            format!("{volume} is not attached to {}; 'spec.volumes' lists the attached volumes", before.id)
        }
        (ActionType::Attach, _) => {
            return new.limit_fault().map_or(Ok(()), |detail| Err(Error::new(Code::LimitReached, detail)));
        }
        _ => return Ok(()),
    };
    Err(Error::new(Code::InvalidState, detail))
}

/// Syncs a resource with its provider.
pub async fn sync(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Resource>,
    body: JsonBody<SyncRequest>,
) -> Result<Idempotent<WriteResponse>> {
    let (mut tx, requested) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let resource = store::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(resource.kind.write_scope())?;
    tx.require_match(&resource)?;
    tenant.require_active()?;
    rules::require_unlocked(tx.db(), &resource).await?;
    if requested.remediate == Some(true) {
        // The object may be gone, but it must have existed.
        let is_missing = resource.conditions.iter().any(|condition| condition.kind == ConditionType::Missing);
        let kind = if is_missing { OperationType::Remediate } else { OperationType::Update };
        rules::require_phase(&resource, kind)?;
        spec_of(&resource)?;
        rules::provider_of(&context.cloud.providers, &resource)?;
        let remediation = ChangeRequest {
            kind: OperationType::Remediate,
            spec: None,
            change: ResourceChange::default(),
            requires_provider: true,
            action: None,
        };
        let draft = apply_change(&context, grant.request(), tx.db(), resource, remediation).await?;
        return commit_or_plan(&context, tx, draft, false).await;
    }
    rules::require_phase(&resource, OperationType::Sync)?;
    let before = Before { phase: Some(resource.phase), spec: None, desired_power: resource.desired_power };
    let operation =
        insert_operation(&context, grant.request(), tx.db(), &resource, (OperationType::Sync, before, true)).await?;
    let change =
        Change::new(Action::ResourceSyncRequested, id, Some(tenant.project_id())).with("operation_id", operation.id);
    let draft = Draft { before: None, after: resource, operation, requires_provider: true, change };
    commit_or_plan(&context, tx, draft, false).await
}

/// Deletes a resource. A repeated request returns the operation that deletes, or has deleted, the resource.
pub async fn delete(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    PathId(id): PathId<id::Resource>,
    Query(query): Query<DryRunQuery>,
) -> Result<WriteResponse> {
    let mut tx = context.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let before = store::lock_for_deletion(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.require(before.kind.write_scope())?;
    if matches!(before.phase, Phase::Deleting | Phase::Deleted)
        && let Some(operation) = store::operations::deletion_of(tx.db(), tenant, id).await?
    {
        tx.waive_preconditions();
        return tx.commit_unchanged(accepted_response(grant.request(), before.etag(), before, operation)).await;
    }
    tx.require_match(&before)?;
    rules::require_deletable(tx.db(), &before).await?;
    let requested = ChangeRequest {
        kind: OperationType::Delete,
        spec: None,
        change: ResourceChange::default(),
        requires_provider: true,
        action: None,
    };
    let draft = apply_change(&context, grant.request(), tx.db(), before, requested).await?;
    if query.is_requested() {
        return Ok(dry_run_response(grant.request(), draft));
    }
    let Draft { after, operation, change, .. } = draft;
    let response = tx.commit(change, accepted_response(grant.request(), after.etag(), after, operation)).await?;
    context.cloud.wake.notify_one();
    Ok(response)
}
