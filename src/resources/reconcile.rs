//! Keeps in step with what others do at providers: looks through each provider's objects in pages, one server at a time,
//! tells of what has drifted or is gone, has it mended where a resource says so, and clears away what a worker that was
//! held up has made beside what is recorded.

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

/// How often to look, between two sweeps, whether one is due.
const LOOKS: u32 = 60;

/// By how much sooner a sweep is repeated that could not be finished.
const SOONER: u32 = 6;

/// How often a provider is asked before its failure ends the sweep.
const ATTEMPTS: u32 = 3;

/// Runs until it must stop.
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
            tracing::warn!(%error, "the objects of a provider could not be looked through; this is tried again");
        }
    }
}

/// Looks through one provider's objects of one kind, if that is due.
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
    // A provider that failed is not left alone for a whole interval: nothing of it has been looked at.
    let pause = if swept.is_ok() { pace.sweep } else { pace.sweep / SOONER };
    sweeps::end(&mut db, &sweep, pause, swept.is_ok()).await?;
    swept
}

/// One sweep under way.
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
        // Who was on no page is looked for by name: it may have been made while the pages were read.
        let unseen = sweeps::unseen(&mut *self.app.db.acquire_for_write().await?, self.sweep).await?;
        for resource in unseen {
            self.inspect(resource).await?;
        }
        Ok(())
    }

    /// Keeps the sweep this server's, and ends when it is another's. What is done to a resource does not rest on that: it is
    /// done only to a resource that nobody has changed since.
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
                Ok(Err(error)) => tracing::debug!(%error, "the lease of a sweep could not be renewed"),
            }
        }
    }

    /// A page, and when it was asked for: it says nothing of what has happened since.
    async fn page(&self, query: &ListQuery) -> Result<(ObjectPage, Timestamp)> {
        let at = sweeps::now(&mut *self.app.db.acquire_for_write().await?).await?;
        let page = self.ask(|| self.provider.driver.list_owned(query)).await?;
        Ok((page, at))
    }

    /// Asks about one object. That the provider will not say is told, and keeps nobody from looking at the others.
    async fn ask_about<'c, T>(
        &self,
        id: ResourceId,
        call: impl Fn() -> BoxFuture<'c, driver::Result<T>>,
    ) -> Result<Option<T>> {
        match self.try_asking(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if matches!(error.kind, Refusal::Retryable { .. }) => Err(self.not_done(&error)),
            Err(error) => {
                tracing::warn!(%error, provider = self.provider.name, resource_id = %id, "a provider does not let us look after a resource");
                Ok(None)
            }
        }
    }

    async fn ask<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> Result<T> {
        self.try_asking(call).await.map_err(|error| self.not_done(&error))
    }

    fn not_done(&self, error: &DriverError) -> Error {
        let detail = format!("The provider '{}' did not do what it was asked for", self.provider.name);
        Error::new(Code::Timeout, detail).caused_by(error.to_string())
    }

    /// Calls a provider, and again after a failure that may pass: else one in a thousand calls would end the sweep.
    async fn try_asking<'c, T>(&self, call: impl Fn() -> BoxFuture<'c, driver::Result<T>>) -> driver::Result<T> {
        let pace = &self.app.cloud.pace;
        let mut attempt = 1;
        loop {
            self.heartbeat.progress();
            let answer = timeout(pace.call, call())
                .await
                .unwrap_or_else(|_| Err(DriverError::retryable("no_answer", "The provider did not answer in time")));
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
            // One that was never heard of may be in a database that this one was restored from: it is left alone.
            let Some(Known { resource, is_busy, settled_at }) = known.get(&id) else {
                tracing::warn!(provider = self.provider.name, reference = object.reference, resource_id = %id,
                    "an object at a provider has our tag and is no resource that is known here; it is left alone");
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
                // Made by a worker that was held up, after another one had taken over, or after it was given up.
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

    /// Deletes an object beside the recorded one, which was never the resource's.
    async fn clear_away(&self, resource: &StoredResource, reference: &str) -> Result<()> {
        tracing::warn!(provider = self.provider.name, reference, resource_id = %resource.id,
            "an object was made beside the one that is its resource's, and is deleted");
        self.app.cloud.figures.add_cleared();
        self.ask_about(resource.id, || self.provider.driver.delete(resource.kind, reference)).await.map(drop)
    }

    /// Looks at one resource's object, and notes what it finds.
    async fn inspect(&self, resource: StoredResource) -> Result<()> {
        let Some(reference) = &resource.provider_ref else { return Ok(()) };
        let looked = self.ask_about(resource.id, || self.provider.driver.read(resource.kind, reference)).await?;
        let Some(object) = looked else { return Ok(()) };
        let now = self.app.clock.now();
        let mut tx = self.app.writes.begin(&Arc::new(RequestContext::system())).await?;
        let Some(before) = rows::lock(tx.db(), resource.id).await? else { return Ok(()) };
        // What was changed since is looked at next time.
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
        let mends =
            off && before.reconcile == Reconcile::Enforce && before.phase.admits(OperationType::Remediate, !is_missing);
        let after = if mends {
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
            News::Mended => tx.commit(change(Action::ResourceRemediated), ()).await?,
            News::None => tx.commit_unchanged(()).await?,
        }
        if mends {
            self.app.cloud.wake.notify_one();
        }
        Ok(())
    }
}
