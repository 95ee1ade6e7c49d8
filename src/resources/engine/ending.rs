//! End of an operation: its status, the new state of its resource and the audit entry, in one transaction.

use std::sync::Arc;

use super::turn::Work;
use crate::{
    base::{action::Action, error::Result, request::RequestContext, trace::TraceContext},
    resources::{
        finding::{self, News},
        lifecycle::{End, OperationStatus, OperationType, Phase},
        machine::{Course, Sight, Step},
        model::{OperationView, ResourceView, StoredResource},
        queue::{self, Ended},
        repo,
        rows::{self, Settled},
        spec::Spec,
    },
    tx::{Change, Tx},
};

/// Ends an operation, if this server still holds its lease.
pub async fn end(work: Work<'_>, course: &Course, end: End) -> Result<()> {
    let cloud = &work.app.cloud;
    cloud.in_time(end_in_transaction(work, course, end)).await
}

async fn end_in_transaction(work: Work<'_>, course: &Course, end: End) -> Result<()> {
    let Work { app, taken, .. } = work;
    let trace = taken.traceparent.as_deref().and_then(TraceContext::following).unwrap_or_else(TraceContext::begin);
    let _permit = app.cloud.db_permit().await?;
    let mut tx = app.writes.begin(&Arc::new(RequestContext::system().in_trace(trace))).await?;
    let Some(before) = rows::lock(tx.db(), taken.resource_id).await? else { return Ok(()) };
    let ended = Ended { status: end.status(), error: course.failure.clone(), at: app.clock.now() };
    let Some(operation) = queue::end(tx.db(), taken, &ended).await? else {
        app.cloud.figures.add_overtaken();
        tracing::debug!(operation_id = %taken.id, "operation taken over by another server");
        return Ok(());
    };
    app.cloud.figures.add_ended(course.kind, end);
    let (settled, news) = settle(&work, &before, course, end);
    let is_gone = settled.phase == Phase::Deleted;
    // A deleted resource uses nothing.
    let spec = if is_gone { None } else { Spec::from_json(before.kind, settled.spec.clone()).ok() };
    refer(&mut tx, &before, spec.as_ref()).await?;
    if is_gone {
        rows::give_back(tx.db(), before.project_id, before.kind).await?;
    }
    let after = rows::settle(tx.db(), before.id, &settled).await?;
    let project = Some(before.project_id);
    let id = before.id;
    let (view_before, view_after) = (ResourceView::from(before), ResourceView::from(after));
    let changed = |action| Change::new(action, id, project).updated(&view_before, &view_after);
    let was_remediated =
        course.kind == OperationType::Remediate || news == News::Remediated || course.step == Step::Converging;
    let change = match (end, course.kind, news) {
        (End::Failed, ..) => changed(Action::ResourceFailed).with("operation", OperationView::from(operation)),
        (End::Canceled, ..) => Change::new(Action::OperationCanceled, taken.id, project)
            .with("resource_id", id)
            .with("status", [OperationStatus::Running, OperationStatus::Canceled]),
        (End::Succeeded, OperationType::Create, _) => changed(Action::ResourceProvisioned),
        (End::Succeeded, OperationType::Delete, _) => changed(Action::ResourceDeleted),
        (End::Succeeded, OperationType::Import, _) => changed(Action::ResourceImported),
        (End::Succeeded, OperationType::Sync, News::Drift(difference)) => {
            changed(Action::ResourceDrifted).with("difference", difference)
        }
        (End::Succeeded, OperationType::Sync | OperationType::Remediate, _) if was_remediated => {
            changed(Action::ResourceRemediated)
        }
        // Nothing has changed.
        (End::Succeeded, OperationType::Sync | OperationType::Remediate, _) => return tx.commit_unchanged(()).await,
        (End::Succeeded, ..) => changed(Action::ResourceUpdated),
    };
    tx.commit(change, ()).await?;
    if let Some(failure) = &course.failure {
        tracing::warn!(operation_id = %taken.id, resource_id = %id, code = %failure.code, detail = failure.detail, "operation failed");
    }
    Ok(())
}

async fn refer(tx: &mut Tx, before: &StoredResource, spec: Option<&Spec>) -> Result<()> {
    match spec {
        Some(spec) => repo::refer(tx.db(), before.id, spec).await?,
        None => rows::refer_to_nothing(tx.db(), before.id).await?,
    }
    Ok(())
}

/// Returns the state of the resource after the operation, and the drift to report.
fn settle(work: &Work<'_>, before: &StoredResource, course: &Course, end: End) -> (Settled, News) {
    let now = work.app.clock.now();
    let began_as = work.taken.before.phase.unwrap_or(before.phase);
    let mut settled = Settled {
        phase: began_as.after(course.kind, end, course.reference.is_some()),
        spec: before.spec.0.clone(),
        generation: before.generation,
        observed_generation: before.observed_generation,
        power: before.power,
        desired_power: before.desired_power,
        provider_ref: course.reference.clone(),
        outputs: before.outputs.0.clone(),
        conditions: before.conditions.0.clone(),
        seen_at: None,
        deleted_at: None,
    };
    if let Some(object) = &work.object {
        settled.power = object.power.or(settled.power);
        settled.outputs.clone_from(&object.outputs);
        settled.seen_at = Some(now);
    }
    let mut news = News::None;
    match (end, course.kind) {
        (End::Succeeded, OperationType::Delete) => {
            settled.deleted_at = Some(now);
            settled.power = None;
            settled.conditions = finding::cleared();
        }
        (End::Succeeded, OperationType::Sync | OperationType::Remediate) => {
            let sight = course.sight.clone().unwrap_or(Sight::Busy);
            let wanted = work.wanted(course);
            let difference = work.object.as_ref().map(|object| wanted.difference(object)).unwrap_or_default();
            (settled.conditions, news) = finding::noted(&before.conditions.0, &sight, difference, now);
            settled.phase = match sight {
                Sight::Missing | Sight::Foreign => Phase::Failed,
                Sight::AsAsked => {
                    settled.conditions = finding::cleared();
                    settled.observed_generation = before.generation;
                    Phase::Active
                }
                _ => began_as,
            };
        }
        (End::Succeeded, _) => {
            settled.conditions = finding::cleared();
            settled.observed_generation = before.generation;
        }
        (End::Failed, _) => {
            if let Some(failure) = &course.failure {
                settled.conditions = finding::failed(&before.conditions.0, failure, now);
            }
        }
        (End::Canceled, _) => {
            if let Some(spec) = &work.taken.before.spec {
                settled.spec = spec.clone();
                settled.generation += 1;
                settled.observed_generation = settled.generation;
            }
            if work.taken.before.spec.is_some() || matches!(course.kind, OperationType::Start | OperationType::Stop) {
                settled.desired_power = work.taken.before.desired_power;
            }
        }
    }
    (settled, news)
}
