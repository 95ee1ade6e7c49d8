//! One run of an operation: all steps until it has to wait or has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::time::timeout;
use uuid::Uuid;

use super::ending;
use crate::{
    base::{
        error::{Code, Error, Result},
        runtime::clock::since_boot,
    },
    db::jobs::hold_lease,
    resources::{
        ResourceContext,
        api::model::{OperationError, Reconcile, StoredResource},
        drivers::driver::{Action, Driver, DriverError, ListQuery, Object, Order, OwnerFilter, Tags},
        engine::{
            lifecycle::{OperationOutcome, OperationType, Phase},
            machine::{Command, Event, Observation, OperationState, Pause, ReferenceState, Step},
        },
        kinds::spec::Spec,
        reconcile::drift::DesiredState,
        store::{
            queue::{self, ClaimedOperation, Holder},
            rows,
        },
    },
};

/// Fraction of the lease after which it must be renewed before a call that changes something.
const RENEWAL_FRACTION: f64 = 0.5;

/// Runs a claimed operation whose lease expires at `lease_until`, on the clock since boot. Returns when it is due
/// again, if it was released.
pub async fn run(context: Arc<ResourceContext>, claimed: ClaimedOperation, lease_until: Duration) -> Option<Instant> {
    // Polled together, so that a renewal that waits for the database cannot block the work from releasing its
    // connection.
    let ended = tokio::select! {
        // The work comes first: after it has released the operation, a renewal finds nothing to renew.
        biased;
        ended = timeout(context.cloud.timing.run_timeout, execute(&context, &claimed, lease_until)) => ended.unwrap_or_else(|_| Err(run_timed_out())),
        () = hold_lease(context.cloud.timing.lease, &claimed.id, || renew(&context, &claimed).boxed()) => {
            context.cloud.metrics.add_overtaken();
            Ok(None)
        }
    };
    ended.unwrap_or_else(|error| {
        context.cloud.metrics.add_aborted_step();
        context.db.handle_error(&error);
        tracing::warn!(%error, operation_id = %claimed.id, resource_id = %claimed.resource_id, "operation step aborted; the operation is resumed");
        None
    })
}

fn run_timed_out() -> Error {
    Error::new(Code::Timeout, "The operation's run took too long; the operation is resumed")
}

async fn renew(context: &ResourceContext, claimed: &ClaimedOperation) -> Result<bool> {
    let mut db = context.cloud.renewal_connection(&context.db).await?;
    let is_held = queue::renew(&mut db, claimed, context.cloud.timing.lease).await?;
    db.release();
    Ok(is_held)
}

/// Operation and resource, with what the provider needs to know about them.
pub(super) struct StepRun<'a> {
    pub context: &'a ResourceContext,
    pub claimed: &'a ClaimedOperation,
    pub resource: StoredResource,
    /// Desired state; `None` if an import has not read the object yet.
    pub spec: Option<Spec>,
    deployment: Uuid,
    /// Order in the provider's references; `None` while some are unknown.
    order: Option<Order>,
    /// Last read of the object.
    pub object: Option<Object>,
    lease_until: Duration,
    /// Step and reference as stored.
    stored: (Step, Option<String>),
}

async fn execute(
    context: &ResourceContext,
    claimed: &ClaimedOperation,
    lease_until: Duration,
) -> Result<Option<Instant>> {
    let Some((mut run, mut state)) = context.cloud.with_timeout(begin(context, claimed, lease_until)).await? else {
        return Ok(None);
    };
    let Some(provider) = context.cloud.providers.get(&run.resource.provider) else {
        // The operation is overdue, otherwise only a server with this provider would have claimed it.
        state.failure = Some(OperationError {
            code: "provider_unavailable".into(),
            detail: format!(
                "No server has the provider '{}' configured; ask the operator to configure it",
                run.resource.provider
            ),
            provider_code: None,
        });
        return ending::end(run, &state, OperationOutcome::Failed).await.map(|()| None);
    };
    loop {
        let next = state.decide();
        let event = match next {
            Command::End(end) => return ending::end(run, &state, end).await.map(|()| None),
            Command::Wait(pause) => return run.release(&state, pause).await.map(Some),
            Command::AdoptSpec => {
                if !context.cloud.with_timeout(run.adopt_spec(&mut state)).await? {
                    return Ok(None);
                }
                continue;
            }
            next => {
                // Restoring has another target than the step before it.
                if state.step == Step::Restoring && run.stored.0 != Step::Restoring {
                    context.cloud.with_timeout(run.refresh_desired_state(&mut state)).await?;
                }
                if !matches!(next, Command::List | Command::Read) && !run.store_step(&state).await? {
                    return Ok(None);
                }
                run.call(&*provider.driver, &next, &state).await
            }
        };
        state.handle(event);
    }
}

/// Reads the operation's context. `None` if its resource no longer exists.
async fn begin<'a>(
    context: &'a ResourceContext,
    claimed: &'a ClaimedOperation,
    lease_until: Duration,
) -> Result<Option<(StepRun<'a>, OperationState)>> {
    let mut db = context.cloud.connection(&context.db).await?;
    let Some(resource) = rows::resource(&mut db, claimed.resource_id).await? else {
        db.release();
        return Ok(None);
    };
    let deployment = rows::deployment(&mut db).await?;
    let Some(step) = Step::of(&claimed.step) else {
        return Err(Error::internal(format!("unknown operation step '{}' in this version", claimed.step)));
    };
    let mut state = OperationState::new(claimed.kind, step);
    state.attempt = claimed.attempt.try_into().unwrap_or(0);
    state.reference.clone_from(&resource.provider_ref);
    state.failure = claimed.error.as_ref().map(|error| error.0.clone());
    state.is_cancel_requested = claimed.cancel_requested;
    state.is_overdue = claimed.overdue;
    state.enforce = claimed.kind == OperationType::Remediate || resource.reconcile == Reconcile::Enforce;
    let stored = (step, resource.provider_ref.clone());
    let mut run =
        StepRun { context, claimed, spec: None, resource, deployment, order: None, object: None, lease_until, stored };
    run.resolve_desired_state(&mut db, &mut state).await?;
    db.release();
    Ok(Some((run, state)))
}

impl StepRun<'_> {
    async fn refresh_desired_state(&mut self, state: &mut OperationState) -> Result<()> {
        let mut db = self.context.cloud.connection(&self.context.db).await?;
        self.resolve_desired_state(&mut db, state).await?;
        db.release();
        Ok(())
    }

    /// Determines the desired state of the object, and whether the resources that it refers to exist.
    async fn resolve_desired_state(&mut self, db: &mut sqlx::PgConnection, state: &mut OperationState) -> Result<()> {
        let before = self.claimed.before.spec.clone().filter(|_| state.step == Step::Restoring);
        let desired = before.unwrap_or_else(|| self.resource.spec.0.clone());
        self.spec = Spec::from_json(self.resource.kind, desired).ok();
        let Some(spec) = &self.spec else { return Ok(()) };
        let known = rows::references(db, spec).await?;
        state.references = ReferenceState::Ready;
        for (member, id) in spec.references() {
            let reference = known.get(id);
            let is_ready = |phase| matches!(phase, Phase::Active | Phase::Updating);
            match reference.map(|reference| (reference.phase, &reference.provider_ref)) {
                Some((phase, Some(_))) if is_ready(phase) => {}
                // A failed reference may be remediated, so a resource that already uses it does not wait.
                Some((Phase::Failed, Some(_))) if state.kind != OperationType::Create => {}
                Some((Phase::Pending | Phase::Provisioning | Phase::Active | Phase::Updating, _)) => {
                    state.references = ReferenceState::Pending;
                }
                other => {
                    let phase = other.map_or("gone", |found| found.0.as_str());
                    let member = member.as_str();
                    state.references = ReferenceState::Failed(format!(
                        "'{member}' refers to {id}, which is {phase}; use another resource, or delete both and create them again"
                    ));
                    return Ok(());
                }
            }
        }
        let spec = spec.map_references(|id| known.get(id).and_then(|reference| reference.provider_ref.clone()));
        self.order = spec.map(|spec| Order {
            tags: self.tags(),
            operation: self.claimed.id,
            name: self.resource.name.clone(),
            labels: self.resource.labels.0.0.clone(),
            spec,
        });
        Ok(())
    }

    fn tags(&self) -> Tags {
        Tags { deployment: self.deployment, resource: self.resource.id }
    }

    /// Desired state to compare the object with.
    pub fn desired_state(&self, state: &OperationState) -> DesiredState<'_> {
        let power = match state.step {
            Step::Restoring => self.claimed.before.desired_power,
            _ => self.resource.desired_power,
        };
        DesiredState { tags: self.tags(), spec: self.order.as_ref().map(|order| &order.spec), power }
    }

    fn observe(&self, state: &OperationState) -> Observation {
        let object = self.object.as_ref();
        // An object without tags whose import has not completed still belongs to its previous owner.
        let owns_object = self.resource.observed_generation > 0 || object.is_none_or(|object| object.tags.is_some());
        match state.step {
            Step::Deleting | Step::Compensating if !owns_object => Observation::Foreign,
            _ => self.desired_state(state).observe(object),
        }
    }

    /// Stores the step before its call, unless it is already stored. Returns whether the operation is still held.
    async fn store_step(&mut self, state: &OperationState) -> Result<bool> {
        let lease = self.context.cloud.timing.lease;
        let is_stored = self.stored == (state.step, state.reference.clone());
        // A worker that was suspended must not make a call that another worker may have made meanwhile.
        if is_stored && since_boot() + lease.mul_f64(RENEWAL_FRACTION) < self.lease_until {
            return Ok(true);
        }
        let began = since_boot();
        let is_held = self.save(state, Holder::ThisServer(lease)).await?;
        self.lease_until = began + lease;
        Ok(is_held)
    }

    async fn save(&mut self, state: &OperationState, holder: Holder) -> Result<bool> {
        let is_revert = |step| matches!(step, Step::Compensating | Step::Restoring);
        let revert_timeout =
            (is_revert(state.step) && !is_revert(self.stored.0)).then_some(self.context.cloud.timing.operation_timeout);
        let saved = async {
            let mut db = self.context.cloud.connection(&self.context.db).await?;
            let is_held = queue::save(&mut db, self.claimed, state, holder, revert_timeout).await?;
            db.release();
            Ok(is_held)
        };
        let is_held = self.context.cloud.with_timeout(saved).await?;
        self.stored = (state.step, state.reference.clone());
        Ok(is_held)
    }

    async fn release(&mut self, state: &OperationState, pause: Pause) -> Result<Instant> {
        let timing = &self.context.cloud.timing;
        let pause = match pause {
            Pause::Poll => timing.reread_interval,
            Pause::Backoff(after) => timing.backoff(state.attempt, after),
        };
        self.save(state, Holder::AnyServer(pause)).await?;
        Ok(Instant::now() + pause)
    }

    async fn call(&mut self, driver: &dyn Driver, next: &Command, state: &OperationState) -> Event {
        let event = timeout(self.context.cloud.timing.call_timeout, self.call_driver(driver, next, state)).await;
        let on_timeout = |_| Err(DriverError::retryable("timeout", "the provider did not respond in time"));
        let event = event.unwrap_or_else(on_timeout);
        self.context.cloud.metrics.add_call(&self.resource.provider, event.is_err());
        event.unwrap_or_else(|error| {
            tracing::debug!(%error, operation_id = %self.claimed.id, step = state.step.as_str(), "provider call failed");
            Event::Rejected(error)
        })
    }

    async fn call_driver(
        &mut self,
        driver: &dyn Driver,
        next: &Command,
        state: &OperationState,
    ) -> std::result::Result<Event, DriverError> {
        let kind = self.resource.kind;
        let reference = state.reference.as_deref().unwrap_or_default();
        // The machine waits until the references exist.
        let order =
            || self.order.as_ref().ok_or_else(|| DriverError::retryable("unknown", "the order is not complete yet"));
        Ok(match next {
            Command::List => {
                let mut query = ListQuery {
                    kind,
                    deployment: self.deployment,
                    owner: OwnerFilter::Resource(self.resource.id),
                    cursor: None,
                };
                let mut found = Vec::new();
                loop {
                    let page = driver.list_owned(&query).await?;
                    let is_deleting =
                        |object: &Object| object.state == crate::resources::drivers::driver::ObjectState::Deleting;
                    found.extend(
                        page.objects.into_iter().map(|object| (object.reference.clone(), is_deleting(&object))),
                    );
                    if page.next.is_none() {
                        break Event::Found(found);
                    }
                    query.cursor = page.next;
                }
            }
            Command::Create => Event::Created(driver.create(order()?).await?.reference),
            Command::Read => {
                self.object = driver.read(kind, reference).await?;
                Event::Observed(self.observe(state))
            }
            Command::Update => driver.update(reference, order()?).await.map(|()| Event::Done)?,
            Command::SetPower(power) => {
                driver.action(kind, reference, Action::Power(*power)).await.map(|()| Event::Done)?
            }
            Command::Reboot => driver.action(kind, reference, Action::Reboot).await.map(|()| Event::Done)?,
            Command::Delete(reference) => driver.delete(kind, reference).await.map(|()| Event::Done)?,
            Command::AdoptSpec | Command::Wait(_) | Command::End(_) => Event::Done,
        })
    }

    /// Stores the state of an imported object as the desired state, with the ids of the project's resources. Returns
    /// whether the operation is still held.
    async fn adopt_spec(&mut self, state: &mut OperationState) -> Result<bool> {
        let Some(object) = &self.object else { return Err(Error::internal("an import has not read its object")) };
        let references: Vec<&str> = object.spec.references().map(|(_, reference)| reference.as_str()).collect();
        let mut db = self.context.cloud.connection(&self.context.db).await?;
        let place = (self.resource.project_id, self.resource.provider.as_str());
        let owners = rows::owners(&mut db, place, &references).await?;
        let mut observed = object.spec.clone();
        // A network that is not a resource is left to the provider.
        observed.retain_optional_references(|reference| owners.contains_key(reference));
        let Some(spec) = observed.map_references(|reference| owners.get(reference).copied()) else {
            db.release();
            let message = "the object has attached volumes that are not resources of the project; import these first";
            state.handle(Event::Rejected(DriverError::new(
                crate::resources::drivers::driver::DriverErrorKind::Invalid,
                "unknown_volumes",
                message,
            )));
            return Ok(true);
        };
        if !queue::adopt_spec(&mut db, self.claimed, &spec, object.power).await? {
            db.release();
            return Ok(false);
        }
        self.resource.spec.0 = spec.to_json();
        self.resource.desired_power = object.power;
        self.resolve_desired_state(&mut db, state).await?;
        db.release();
        state.handle(Event::Done);
        Ok(true)
    }
}
