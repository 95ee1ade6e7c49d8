//! Reconciliation: compares the objects at each provider with the resources, in pages and on one server at a time. It
//! reports drift and missing objects, remediates them if the resource has `reconcile: enforce`, and deletes objects
//! that a delayed worker created in addition to the recorded one.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    driver::{self, DriverError, ListQuery, Object, ObjectPage, ObjectState, Owned, Refusal, Tags},
    finding::{self, News, Wanted},
    lifecycle::{OperationType, Phase},
    machine::Sight,
    model::{Reconcile, ResourceView, StoredResource},
    queue::{self, Begun},
    registry::Provider,
    repo, rows,
    sweeps::{self, Known, Sweep},
};
use crate::{
    base::{
        action::Action,
        clock::Timestamp,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
        id::ResourceId,
        request::RequestContext,
    },
    state::App,
    tx::Change,
};

/// Number of checks per sweep interval for a sweep that is due.
const LOOKS: u32 = 60;

/// Factor by which an unfinished sweep is repeated sooner.
const SOONER: u32 = 6;

/// Maximum number of attempts of a call before its failure ends the sweep.
const ATTEMPTS: u32 = 3;

/// Runs until the server stops.
pub async fn run(app: App, heartbeat: Heartbeat) {
    let pause = app.cloud.pace.poll.max(app.cloud.pace.sweep / LOOKS);
    let mut is_known = false;
    while heartbeat.pause(pause).await {
        if !app.lifecycle.is_open() {
            continue;
        }
        let swept = heartbeat.stop().run_until_cancelled(sweep_one(&app, &heartbeat, &mut is_known)).await;
        if let Some(Err(error)) = swept {
            app.db.note(&error);
            tracing::warn!(%error, "provider sweep failed; it is retried");
        }
    }
}

/// Sweeps one provider's objects of one kind, if that is due.
async fn sweep_one(app: &App, heartbeat: &Heartbeat, is_known: &mut bool) -> Result<()> {
    let pace = &app.cloud.pace;
    let mut db = app.db.acquire_for_write().await?;
    let all = app
        .cloud
        .providers
        .iter()
        .flat_map(|provider| provider.capabilities().kinds.iter().map(|kind| (provider.name.as_str(), kind.kind)));
    let all: Vec<_> = all.collect();
    if !*is_known {
        sweeps::know(&mut db, &all).await?;
        *is_known = true;
    }
    let Some(sweep) = sweeps::take(&mut db, &all, pace.lease).await? else { return Ok(()) };
    let deployment = rows::deployment(&mut db).await?;
    drop(db);
    let Some(provider) = app.cloud.providers.get(&sweep.provider) else { return Ok(()) };
    let sweeper = Sweeper { app, heartbeat, provider, sweep: &sweep, deployment };
    let swept = tokio::select! {
        swept = sweeper.run() => swept,
        () = sweeper.lose() => return Ok(()),
    };
    let mut db = app.db.acquire_for_write().await?;
    // After a failure, sweep again sooner than after a whole interval, because objects were not compared.
    let pause = if swept.is_ok() { pace.sweep } else { pace.sweep / SOONER };
    sweeps::end(&mut db, &sweep, pause, swept.is_ok()).await?;
    swept
}

/// Sweep in progress.
struct Sweeper<'a> {
    app: &'a App,
    heartbeat: &'a Heartbeat,
    provider: &'a Provider,
    sweep: &'a Sweep,
    deployment: Uuid,
}

impl Sweeper<'_> {
    async fn run(&self) -> Result<()> {
        let mut query = ListQuery { kind: self.sweep.kind, deployment: self.deployment, of: Owned::All, page: None };
        loop {
            let (page, at) = self.page(&query).await?;
            self.compare(page.objects, at).await?;
            let Some(next) = page.next else { break };
            query.page = Some(next);
        }
        // Inspect resources whose object was on no page: it may have been created while the pages were read.
        let unseen = sweeps::unseen(&mut *self.app.db.acquire_for_write().await?, self.sweep).await?;
        for resource in unseen {
            self.inspect(resource).await?;
        }
        Ok(())
    }

    /// Renews the lease of the sweep, and returns when another server holds it. Correctness does not depend on the
    /// lease: a resource is changed only if it has not changed since it was read.
    async fn lose(&self) {
        let lease = self.app.cloud.pace.lease;
        loop {
            sleep(lease / 3).await;
            let renewed = async {
                Ok::<_, Error>(sweeps::renew(&mut *self.app.db.acquire_for_write().await?, self.sweep, lease).await?)
            };
            match timeout(lease, renewed).await {
                Ok(Ok(false)) => return,
                Ok(Ok(true)) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "sweep lease renewal failed"),
            }
        }
    }

    /// Reads a page. Returns it with the time of the request, because it does not reflect later changes.
    async fn page(&self, query: &ListQuery) -> Result<(ObjectPage, Timestamp)> {
        let at = sweeps::now(&mut *self.app.db.acquire_for_write().await?).await?;
        let page = self.ask(|| self.provider.driver.list_owned(query)).await?;
        Ok((page, at))
    }

    /// Makes a call about one object. A permanent error is logged and does not end the sweep.
    async fn ask_about<'c, T>(
        &self,
        id: ResourceId,
        call: impl Fn() -> BoxFuture<'c, driver::Result<T>>,
    ) -> Result<Option<T>> {
        match self.try_asking(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if matches!(error.kind, Refusal::Retryable { .. }) => Err(self.not_done(&error)),
            Err(error) => {
                tracing::warn!(%error, provider = self.provider.name, resource_id = %id, "provider call about a resource failed");
                Ok(None)
            }
        }
    }

    async fn ask<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> Result<T> {
        self.try_asking(call).await.map_err(|error| self.not_done(&error))
    }

    fn not_done(&self, error: &DriverError) -> Error {
        let detail = format!("A call to the provider '{}' failed; the sweep is retried", self.provider.name);
        Error::new(Code::Timeout, detail).caused_by(error.to_string())
    }

    /// Makes a call, with retries after temporary failures: otherwise one failure in a thousand calls would end the
    /// sweep.
    async fn try_asking<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> driver::Result<T> {
        let pace = &self.app.cloud.pace;
        let mut attempt = 1;
        loop {
            self.heartbeat.progress();
            let answer = timeout(pace.call, call())
                .await
                .unwrap_or_else(|_| Err(DriverError::retryable("no_answer", "The provider did not respond in time")));
            self.app.cloud.figures.add_call(&self.provider.name, answer.is_err());
            match answer {
                Err(DriverError { kind: Refusal::Retryable { after }, .. }) if attempt < ATTEMPTS => {
                    self.heartbeat.pause(pace.pause(attempt, after)).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn compare(&self, objects: Vec<Object>, at: Timestamp) -> Result<()> {
        let ids: Vec<ResourceId> = objects.iter().filter_map(|object| object.tags).map(|tags| tags.resource).collect();
        let mut db = self.app.db.acquire_for_write().await?;
        let known: BTreeMap<_, Known> =
            sweeps::known(&mut db, &ids).await?.into_iter().map(|known| (known.resource.id, known)).collect();
        let specs: Vec<_> = known.values().filter_map(|known| known.resource.spec().ok()).collect();
        let mut names = BTreeMap::new();
        for spec in &specs {
            names.extend(rows::references(&mut db, spec).await?);
        }
        drop(db);
        let (mut as_known, mut suspects, mut strays) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            let Some(Tags { resource: id, .. }) = object.tags else { continue };
            // An unknown resource may exist in a database that this one was restored from, so do not touch its object.
            let Some(Known { resource, is_busy, settled_at }) = known.get(&id) else {
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
                        spec.in_names_of(|id| names.get(id).and_then(|known| known.provider_ref.clone()))
                    });
                    let wanted = self.wanted(resource, spec.as_ref());
                    match wanted.sight(Some(&object)) {
                        Sight::AsAsked if resource.conditions.is_empty() => as_known.push(id),
                        Sight::Busy => {}
                        _ => suspects.push(resource.clone()),
                    }
                }
                // Created by a delayed worker after another one had taken over, or after the operation was canceled.
                _ if object.state != ObjectState::Deleting => strays.push((resource.clone(), object.reference)),
                _ => {}
            }
        }
        sweeps::seen(&mut *self.app.db.acquire_for_write().await?, &as_known).await?;
        for resource in suspects {
            self.inspect(resource).await?;
        }
        for (resource, reference) in strays {
            self.clear_away(&resource, &reference).await?;
        }
        Ok(())
    }

    fn wanted<'a>(&self, resource: &StoredResource, spec: Option<&'a super::spec::Spec<String>>) -> Wanted<'a> {
        let tags = Tags { deployment: self.deployment, resource: resource.id };
        Wanted { tags, spec, power: resource.desired_power }
    }

    /// Deletes an object that exists in addition to the resource's recorded object.
    async fn clear_away(&self, resource: &StoredResource, reference: &str) -> Result<()> {
        tracing::warn!(provider = self.provider.name, reference, resource_id = %resource.id,
            "deleting an object that exists in addition to its resource's recorded object");
        self.app.cloud.figures.add_cleared();
        self.ask_about(resource.id, || self.provider.driver.delete(resource.kind, reference)).await.map(drop)
    }

    /// Reads one resource's object, and stores the result.
    async fn inspect(&self, resource: StoredResource) -> Result<()> {
        let Some(reference) = &resource.provider_ref else { return Ok(()) };
        let looked = self.ask_about(resource.id, || self.provider.driver.read(resource.kind, reference)).await?;
        let Some(object) = looked else { return Ok(()) };
        let now = self.app.clock.now();
        let mut tx = self.app.writes.begin(&Arc::new(RequestContext::system())).await?;
        let Some(before) = rows::lock(tx.db(), resource.id).await? else { return Ok(()) };
        // A resource that has changed since is inspected in the next sweep.
        let is_same = before.version == resource.version && before.provider_ref == resource.provider_ref;
        if !is_same || repo::operations::under_way(tx.db(), resource.id).await?.is_some() {
            return Ok(());
        }
        let Ok(spec) = before.spec() else { return Ok(()) };
        let names = rows::references(tx.db(), &spec).await?;
        let spec = spec.in_names_of(|id| names.get(id).and_then(|known| known.provider_ref.clone()));
        let wanted = self.wanted(&before, spec.as_ref());
        let sight = wanted.sight(object.as_ref());
        let difference = object.as_ref().map(|object| wanted.difference(object)).unwrap_or_default();
        let (conditions, news) = finding::noted(&before.conditions.0, &sight, difference, now);
        let is_missing = matches!(sight, Sight::Missing | Sight::Foreign);
        let seen = sweeps::Seen {
            conditions: &conditions,
            power: object.as_ref().and_then(|object| object.power),
            is_missing,
            changes: news != News::None,
        };
        let noted = sweeps::note(tx.db(), &before, &seen).await?;
        let off = !matches!(sight, Sight::AsAsked | Sight::Busy);
        let remediates =
            off && before.reconcile == Reconcile::Enforce && before.phase.admits(OperationType::Remediate, !is_missing);
        let after = if remediates {
            let begun =
                Begun { kind: OperationType::Remediate, at: now, give_up_after: self.app.cloud.pace.give_up_after };
            queue::start(tx.db(), &noted, &begun).await?
        } else {
            noted
        };
        let (id, project) = (before.id, Some(before.project_id));
        let change =
            |action| Change::new(action, id, project).updated(&ResourceView::from(before), &ResourceView::from(after));
        match news {
            News::Drift(difference) => {
                self.app.cloud.figures.add_drifted();
                tx.commit(change(Action::ResourceDrifted).with("difference", difference), ()).await?;
            }
            News::Remediated => tx.commit(change(Action::ResourceRemediated), ()).await?,
            News::None => tx.commit_unchanged(()).await?,
        }
        if remediates {
            self.app.cloud.wake.notify_one();
        }
        Ok(())
    }
}
