//! Reconciliation: compares the objects at each provider with the resources, in pages and on one server at a time. It
//! reports drift and missing objects, remediates them if the resource has `reconcile: enforce`, and deletes objects
//! that a delayed worker created in addition to the recorded one.

pub mod drift;
pub mod expiry;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    api::model::{Reconcile, ResourceView, StoredResource},
    drivers::{
        driver::{self, DriverError, DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, OwnerFilter, Tags},
        registry::Provider,
    },
    engine::{
        lifecycle::{OperationType, Phase},
        machine::Observation,
    },
    store::{
        self,
        queue::{self, NewOperation},
        rows,
        sweeps::{self, Sweep, SweptResource},
    },
};
use crate::{
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::ResourceId,
        runtime::{clock::Timestamp, heartbeat::Heartbeat, request::RequestContext},
    },
    db::{self, jobs::hold_lease, pulse::Work},
    resources::ResourceContext,
    tx::Change,
};
use drift::{DesiredState, DriftChange};

/// Number of checks per sweep interval for a sweep that is due.
const CHECKS_PER_INTERVAL: u32 = 60;

/// Factor by which an unfinished sweep is repeated sooner.
const RETRY_DIVISOR: u32 = 6;

/// Maximum number of attempts of a call before its failure ends the sweep.
const MAX_ATTEMPTS: u32 = 3;

/// Runs until the server stops.
pub async fn run(context: Arc<ResourceContext>, heartbeat: Heartbeat) {
    let pause = context.cloud.timing.poll_interval.max(context.cloud.timing.sweep_interval / CHECKS_PER_INTERVAL);
    let mut is_registered = false;
    while heartbeat.pause(pause).await {
        if !context.lifecycle.has_started()
            || is_registered && !heartbeat.pause_until(context.db.pulse().due(Work::Sweeps)).await
        {
            continue;
        }
        let swept = heartbeat.stop().run_until_cancelled(sweep_one(&context, &heartbeat, &mut is_registered)).await;
        if let Some(Err(error)) = swept {
            context.db.handle_error(&error);
            tracing::warn!(%error, "provider sweep failed; it is retried");
        }
    }
}

/// Sweeps one provider's objects of one kind, if that is due.
async fn sweep_one(context: &ResourceContext, heartbeat: &Heartbeat, is_registered: &mut bool) -> Result<()> {
    let timing = &context.cloud.timing;
    let mut db = context.db.acquire_for_write().await?;
    let all = context
        .cloud
        .providers
        .iter()
        .flat_map(|provider| provider.capabilities().kinds.iter().map(|kind| (provider.name.as_str(), kind.kind)));
    let all: Vec<_> = all.collect();
    if !*is_registered {
        sweeps::register(&mut db, &all).await?;
        *is_registered = true;
    }
    let Some(sweep) = sweeps::claim(&mut db, &all, timing.lease).await? else { return Ok(()) };
    let deployment = rows::deployment(&mut db).await?;
    drop(db);
    let Some(provider) = context.cloud.providers.get(&sweep.provider) else { return Ok(()) };
    let sweeper = Sweeper { context, heartbeat, provider, sweep: &sweep, deployment };
    let swept = tokio::select! {
        swept = sweeper.run() => swept,
        () = sweeper.wait_until_lease_lost() => return Ok(()),
    };
    let mut db = context.db.acquire_for_write().await?;
    // After a failure, sweep again sooner than after a whole interval, because objects were not compared.
    let pause = if swept.is_ok() { timing.sweep_interval } else { timing.sweep_interval / RETRY_DIVISOR };
    sweeps::end(&mut db, &sweep, pause, swept.is_ok()).await?;
    swept
}

/// Sweep in progress.
struct Sweeper<'a> {
    context: &'a ResourceContext,
    heartbeat: &'a Heartbeat,
    provider: &'a Provider,
    sweep: &'a Sweep,
    deployment: Uuid,
}

impl Sweeper<'_> {
    async fn run(&self) -> Result<()> {
        let mut query =
            ListQuery { kind: self.sweep.kind, deployment: self.deployment, owner: OwnerFilter::All, cursor: None };
        loop {
            let (page, at) = self.page(&query).await?;
            self.compare(page.objects, at).await?;
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        // Inspect resources whose object was on no page: it may have been created while the pages were read.
        let mut after = Some(String::new());
        while let Some(reference) = after {
            let mut db = self.context.db.acquire_for_write().await?;
            let (unobserved, next) = sweeps::list_unobserved(&mut db, self.sweep, &reference).await?;
            drop(db);
            for resource in unobserved {
                self.inspect(resource).await?;
            }
            self.heartbeat.progress();
            after = next;
        }
        Ok(())
    }

    /// Renews the lease of the sweep, and returns when another server holds it. Correctness does not depend on the
    /// lease: a resource is changed only if it has not changed since it was read.
    async fn wait_until_lease_lost(&self) {
        let lease = self.context.cloud.timing.lease;
        let renew = || {
            async move { Ok(sweeps::renew(&mut *self.context.db.acquire_for_write().await?, self.sweep, lease).await?) }
                .boxed()
        };
        hold_lease(lease, &self.sweep.provider, renew).await;
    }

    /// Reads a page. Returns it with the time of the request, because it does not reflect later changes.
    async fn page(&self, query: &ListQuery) -> Result<(ObjectPage, Timestamp)> {
        let at = db::database_now(&mut *self.context.db.acquire_for_write().await?).await?;
        let page = self.call(|| self.provider.driver.list_owned(query)).await?;
        Ok((page, at))
    }

    /// Makes a call about one object. A permanent error is logged and does not end the sweep.
    async fn call_about<'c, T>(
        &self,
        id: ResourceId,
        call: impl Fn() -> BoxFuture<'c, driver::Result<T>>,
    ) -> Result<Option<T>> {
        match self.call_with_retries(call).await {
            Ok(result) => Ok(Some(result)),
            Err(error) if matches!(error.kind, DriverErrorKind::Retryable { .. }) => Err(self.sweep_error(&error)),
            Err(error) => {
                tracing::warn!(%error, provider = self.provider.name, resource_id = %id, "provider call about a resource failed");
                Ok(None)
            }
        }
    }

    async fn call<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> Result<T> {
        self.call_with_retries(call).await.map_err(|error| self.sweep_error(&error))
    }

    fn sweep_error(&self, error: &DriverError) -> Error {
        let detail = format!("A call to the provider '{}' failed; the sweep is retried", self.provider.name);
        Error::new(Code::Timeout, detail).caused_by(error.to_string())
    }

    /// Makes a call, with retries after temporary failures: otherwise one failure in a thousand calls would end the
    /// sweep.
    async fn call_with_retries<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> driver::Result<T> {
        let timing = &self.context.cloud.timing;
        let mut attempt = 1;
        loop {
            self.heartbeat.progress();
            let result = timeout(timing.call_timeout, call())
                .await
                .unwrap_or_else(|_| Err(DriverError::retryable("no_answer", "The provider did not respond in time")));
            self.context.cloud.metrics.add_call(&self.provider.name, result.is_err());
            match result {
                Err(DriverError { kind: DriverErrorKind::Retryable { after }, .. }) if attempt < MAX_ATTEMPTS => {
                    self.heartbeat.pause(timing.backoff(attempt, after)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn compare(&self, objects: Vec<Object>, at: Timestamp) -> Result<()> {
        let ids: Vec<ResourceId> = objects.iter().filter_map(|object| object.tags).map(|tags| tags.resource).collect();
        let mut db = self.context.db.acquire_for_write().await?;
        let known: BTreeMap<_, SweptResource> =
            sweeps::find_resources(&mut db, &ids).await?.into_iter().map(|known| (known.resource.id, known)).collect();
        let specs: Vec<_> = known.values().filter_map(|known| known.resource.spec().ok()).collect();
        let mut names = BTreeMap::new();
        for spec in &specs {
            names.extend(rows::references(&mut db, spec).await?);
        }
        drop(db);
        let (mut in_sync, mut to_inspect, mut extra_objects) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            let Some(Tags { resource: id, .. }) = object.tags else { continue };
            // An unknown resource may exist in a database that this one was restored from, so do not touch its object.
            let Some(SweptResource { resource, is_busy, settled_at }) = known.get(&id) else {
                tracing::warn!(provider = self.provider.name, reference = object.reference, resource_id = %id,
                    "object has this deployment's tag but no known resource; it is left unchanged");
                continue;
            };
            if *is_busy || *settled_at >= at {
                continue;
            }
            match &resource.provider_ref {
                Some(recorded) if *recorded == object.reference && resource.phase != Phase::Deleted => {
                    let spec = resource.spec().ok().and_then(|spec| {
                        spec.map_references(|id| names.get(id).and_then(|known| known.provider_ref.clone()))
                    });
                    let desired = self.desired_state(resource, spec.as_ref());
                    match desired.observe(Some(&object)) {
                        Observation::InSync if resource.conditions.is_empty() => in_sync.push(id),
                        Observation::Busy => {}
                        _ => to_inspect.push(resource.clone()),
                    }
                }
                // Created by a delayed worker after another one had taken over, or after the operation was canceled.
                _ if object.state != ObjectState::Deleting => extra_objects.push((resource.clone(), object.reference)),
                _ => {}
            }
        }
        sweeps::mark_synced(&mut *self.context.db.acquire_for_write().await?, &in_sync).await?;
        for resource in to_inspect {
            self.inspect(resource).await?;
        }
        for (resource, reference) in extra_objects {
            self.delete_extra(&resource, &reference).await?;
        }
        Ok(())
    }

    fn desired_state<'a>(
        &self,
        resource: &StoredResource,
        spec: Option<&'a super::kinds::spec::Spec<String>>,
    ) -> DesiredState<'a> {
        let tags = Tags { deployment: self.deployment, resource: resource.id };
        DesiredState { tags, spec, power: resource.desired_power }
    }

    /// Deletes an object that exists in addition to the resource's recorded object.
    async fn delete_extra(&self, resource: &StoredResource, reference: &str) -> Result<()> {
        tracing::warn!(provider = self.provider.name, reference, resource_id = %resource.id,
            "deleting an object that exists in addition to its resource's recorded object");
        self.context.cloud.metrics.add_extra_deleted();
        self.call_about(resource.id, || self.provider.driver.delete(resource.kind, reference)).await.map(drop)
    }

    /// Reads one resource's object, and stores the result.
    async fn inspect(&self, resource: StoredResource) -> Result<()> {
        let Some(reference) = &resource.provider_ref else { return Ok(()) };
        let read = self.call_about(resource.id, || self.provider.driver.read(resource.kind, reference)).await?;
        let Some(object) = read else { return Ok(()) };
        let now = self.context.clock.now();
        let mut tx = self.context.writes.begin(&Arc::new(RequestContext::system())).await?;
        let Some(before) = rows::lock(tx.db(), resource.id).await? else { return Ok(()) };
        // A resource that has changed since is inspected in the next sweep.
        let is_same = before.version == resource.version && before.provider_ref == resource.provider_ref;
        if !is_same || store::operations::find_in_progress(tx.db(), resource.id).await?.is_some() {
            return Ok(());
        }
        let Ok(spec) = before.spec() else { return Ok(()) };
        let names = rows::references(tx.db(), &spec).await?;
        let spec = spec.map_references(|id| names.get(id).and_then(|known| known.provider_ref.clone()));
        let desired = self.desired_state(&before, spec.as_ref());
        let observation = desired.observe(object.as_ref());
        let difference = object.as_ref().map(|object| desired.difference(object)).unwrap_or_default();
        let (conditions, drift_change) = drift::apply_observation(&before.conditions.0, &observation, difference, now);
        let is_missing = matches!(observation, Observation::Missing | Observation::Foreign);
        let observed = sweeps::ObservedState {
            conditions: &conditions,
            power: object.as_ref().and_then(|object| object.power),
            is_missing,
            has_changes: drift_change != DriftChange::None,
        };
        let stored = sweeps::store_observation(tx.db(), &before, &observed).await?;
        let has_drifted = !matches!(observation, Observation::InSync | Observation::Busy);
        let remediates = has_drifted
            && before.reconcile == Reconcile::Enforce
            && before.phase.allows(OperationType::Remediate, !is_missing);
        let after = if remediates {
            let new_operation = NewOperation {
                kind: OperationType::Remediate,
                at: now,
                operation_timeout: self.context.cloud.timing.operation_timeout,
            };
            queue::start_operation(tx.db(), &stored, &new_operation).await?
        } else {
            stored
        };
        let (id, project) = (before.id, Some(before.project_id));
        let change =
            |action| Change::new(action, id, project).updated(&ResourceView::from(before), &ResourceView::from(after));
        match drift_change {
            DriftChange::Detected(difference) => {
                self.context.cloud.metrics.add_drifted();
                tx.commit(change(Action::ResourceDrifted).with("difference", difference), ()).await?;
            }
            DriftChange::Remediated => tx.commit(change(Action::ResourceRemediated), ()).await?,
            DriftChange::None => tx.commit_unchanged(()).await?,
        }
        if remediates {
            self.context.cloud.wake.notify_one();
        }
        Ok(())
    }
}
