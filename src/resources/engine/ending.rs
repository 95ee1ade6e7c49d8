//! End of an operation: its status, the new state of its resource and the audit entry, in one transaction.

use std::sync::Arc;

use super::step_run::StepRun;
use crate::{
    base::{
        action::Action,
        error::Result,
        runtime::{request::RequestContext, trace::TraceContext},
    },
    resources::{
        api::model::{OperationView, ResourceView, StoredResource},
        engine::{
            lifecycle::{OperationOutcome, OperationStatus, OperationType, Phase},
            machine::{Observation, OperationState, Step},
        },
        kinds::spec::Spec,
        reconcile::drift::{self, DriftChange},
        store::{
            self,
            queue::{self, Completion},
            rows::{self, ResourceOutcome},
        },
    },
    tx::{Change, Tx},
};

/// Ends an operation, if this server still holds its lease.
pub async fn end(run: StepRun<'_>, state: &OperationState, end: OperationOutcome) -> Result<()> {
    let cloud = &run.context.cloud;
    cloud.with_timeout(end_in_transaction(run, state, end)).await
}

async fn end_in_transaction(run: StepRun<'_>, state: &OperationState, end: OperationOutcome) -> Result<()> {
    let StepRun { context, claimed, .. } = run;
    let trace = claimed.traceparent.as_deref().and_then(TraceContext::child_of).unwrap_or_else(TraceContext::new_root);
    let _permit = context.cloud.db_permit().await?;
    let mut tx = context.writes.begin(&Arc::new(RequestContext::system().with_trace(trace))).await?;
    let Some(before) = rows::lock(tx.db(), claimed.resource_id).await? else { return Ok(()) };
    let completion = Completion { status: end.status(), error: state.failure.clone(), at: context.clock.now() };
    let Some(operation) = queue::end(tx.db(), claimed, &completion).await? else {
        context.cloud.metrics.add_overtaken();
        tracing::debug!(operation_id = %claimed.id, "operation taken over by another server");
        return Ok(());
    };
    context.cloud.metrics.add_ended(state.kind, end);
    let (outcome, drift_change) = resource_outcome(&run, &before, state, end);
    let is_deleted = outcome.phase == Phase::Deleted;
    // A deleted resource uses nothing.
    let spec = if is_deleted { None } else { Spec::from_json(before.kind, outcome.spec.clone()).ok() };
    update_references(&mut tx, &before, spec.as_ref()).await?;
    if is_deleted {
        rows::release_quota(tx.db(), before.project_id, before.kind).await?;
    }
    let after = rows::store_outcome(tx.db(), before.id, &outcome).await?;
    let project = Some(before.project_id);
    let id = before.id;
    let (view_before, view_after) = (ResourceView::from(before), ResourceView::from(after));
    let change_to = |action| Change::new(action, id, project).updated(&view_before, &view_after);
    let was_remediated = state.kind == OperationType::Remediate
        || drift_change == DriftChange::Remediated
        || state.step == Step::Converging;
    let change = match (end, state.kind, drift_change) {
        (OperationOutcome::Failed, ..) => {
            change_to(Action::ResourceFailed).with("operation", OperationView::from(operation))
        }
        (OperationOutcome::Canceled, ..) => Change::new(Action::OperationCanceled, claimed.id, project)
            .with("resource_id", id)
            .with("status", [OperationStatus::Running, OperationStatus::Canceled]),
        (OperationOutcome::Succeeded, OperationType::Create, _) => change_to(Action::ResourceProvisioned),
        (OperationOutcome::Succeeded, OperationType::Delete, _) => change_to(Action::ResourceDeleted),
        (OperationOutcome::Succeeded, OperationType::Import, _) => change_to(Action::ResourceImported),
        (OperationOutcome::Succeeded, OperationType::Sync, DriftChange::Detected(difference)) => {
            change_to(Action::ResourceDrifted).with("difference", difference)
        }
        (OperationOutcome::Succeeded, OperationType::Sync | OperationType::Remediate, _) if was_remediated => {
            change_to(Action::ResourceRemediated)
        }
        // Nothing has changed.
        (OperationOutcome::Succeeded, OperationType::Sync | OperationType::Remediate, _) => {
            return tx.commit_unchanged(()).await;
        }
        (OperationOutcome::Succeeded, ..) => change_to(Action::ResourceUpdated),
    };
    tx.commit(change, ()).await?;
    if let Some(failure) = &state.failure {
        tracing::warn!(operation_id = %claimed.id, resource_id = %id, code = %failure.code, detail = failure.detail, "operation failed");
    }
    Ok(())
}

async fn update_references(tx: &mut Tx, before: &StoredResource, spec: Option<&Spec>) -> Result<()> {
    match spec {
        Some(spec) => store::replace_references(tx.db(), before.id, spec).await?,
        None => rows::delete_references(tx.db(), before.id).await?,
    }
    Ok(())
}

/// Returns the state of the resource after the operation, and the drift to report.
fn resource_outcome(
    run: &StepRun<'_>,
    before: &StoredResource,
    state: &OperationState,
    end: OperationOutcome,
) -> (ResourceOutcome, DriftChange) {
    let now = run.context.clock.now();
    let phase_before = run.claimed.before.phase.unwrap_or(before.phase);
    let mut outcome = ResourceOutcome {
        phase: phase_before.after(state.kind, end, state.reference.is_some()),
        spec: before.spec.0.clone(),
        generation: before.generation,
        observed_generation: before.observed_generation,
        power: before.power,
        desired_power: before.desired_power,
        provider_ref: state.reference.clone(),
        outputs: before.outputs.0.clone(),
        conditions: before.conditions.0.clone(),
        observed_at: None,
        deleted_at: None,
    };
    if let Some(object) = &run.object {
        outcome.power = object.power.or(outcome.power);
        outcome.outputs.clone_from(&object.outputs);
        outcome.observed_at = Some(now);
    }
    let mut drift_change = DriftChange::None;
    match (end, state.kind) {
        (OperationOutcome::Succeeded, OperationType::Delete) => {
            outcome.deleted_at = Some(now);
            outcome.power = None;
            outcome.conditions = drift::conditions_after_success();
        }
        (OperationOutcome::Succeeded, OperationType::Sync | OperationType::Remediate) => {
            let observation = state.observation.clone().unwrap_or(Observation::Busy);
            let desired = run.desired_state(state);
            let difference = run.object.as_ref().map(|object| desired.difference(object)).unwrap_or_default();
            (outcome.conditions, drift_change) =
                drift::apply_observation(&before.conditions.0, &observation, difference, now);
            outcome.phase = match observation {
                Observation::Missing | Observation::Foreign => Phase::Failed,
                Observation::InSync => {
                    outcome.conditions = drift::conditions_after_success();
                    outcome.observed_generation = before.generation;
                    Phase::Active
                }
                _ => phase_before,
            };
        }
        (OperationOutcome::Succeeded, _) => {
            outcome.conditions = drift::conditions_after_success();
            outcome.observed_generation = before.generation;
        }
        (OperationOutcome::Failed, _) => {
            if let Some(failure) = &state.failure {
                outcome.conditions = drift::conditions_after_failure(&before.conditions.0, failure, now);
            }
        }
        (OperationOutcome::Canceled, _) => {
            if let Some(spec) = &run.claimed.before.spec {
                outcome.spec = spec.clone();
                outcome.generation += 1;
                outcome.observed_generation = outcome.generation;
            }
            if run.claimed.before.spec.is_some() || matches!(state.kind, OperationType::Start | OperationType::Stop) {
                outcome.desired_power = run.claimed.before.desired_power;
            }
        }
    }
    (outcome, drift_change)
}
