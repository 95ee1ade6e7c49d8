//! One turn of an operation: all steps until it has to wait or has ended.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::ending;
use crate::{
    base::{
        clock::since_boot,
        error::{Code, Error, Result},
    },
    resources::{
        driver::{Action, Driver, DriverError, ListQuery, Object, Order, Owned, Tags},
        finding::Wanted,
        lifecycle::{End, OperationType, Phase},
        machine::{Course, Do, Heard, Pause, Referred, Sight, Step},
        model::{OperationError, Reconcile, StoredResource},
        queue::{self, Taken, Turn},
        rows,
        spec::Spec,
    },
    state::App,
};

/// Fraction of the lease after which it must be renewed before a call that changes something.
const SAFE_PART: f64 = 0.5;

/// Runs a claimed operation whose lease expires at `until`, on the clock since boot. Returns when it is due again, if
/// it was released.
pub async fn run(app: App, taken: Taken, until: Duration) -> Option<Instant> {
    // Polled together, so that a renewal that waits for the database cannot block the work from releasing its
    // connection.
    let ended = tokio::select! {
        // The work comes first: after it has released the operation, a renewal finds nothing to renew.
        biased;
        ended = timeout(app.cloud.pace.turn, work(&app, &taken, until)) => ended.unwrap_or_else(|_| Err(took_too_long())),
        () = keep(&app, &taken) => {
            app.cloud.figures.add_overtaken();
            Ok(None)
        }
    };
    ended.unwrap_or_else(|error| {
        app.cloud.figures.add_aborted_step();
        app.db.note(&error);
        tracing::warn!(%error, operation_id = %taken.id, resource_id = %taken.resource_id, "operation step aborted; the operation is resumed");
        None
    })
}

fn took_too_long() -> Error {
    Error::new(Code::Timeout, "The operation's turn took too long; the operation is resumed")
}

/// Renews the lease until another server has taken the operation over. With a slow provider, a turn takes longer than a
/// lease.
async fn keep(app: &App, taken: &Taken) {
    loop {
        sleep(app.cloud.pace.lease.mul_f64(SAFE_PART)).await;
        match app.cloud.in_time(renew(app, taken)).await {
            Ok(true) => {}
            Ok(false) => return,
            // The lease may still be valid, so try again.
            Err(error) => tracing::warn!(%error, operation_id = %taken.id, "operation lease renewal failed"),
        }
    }
}

async fn renew(app: &App, taken: &Taken) -> Result<bool> {
    let mut db = app.cloud.renewal_connection(&app.db).await?;
    let is_ours = queue::renew(&mut db, taken, app.cloud.pace.lease).await?;
    db.done();
    Ok(is_ours)
}

/// Operation and resource, with what the provider needs to know about them.
pub(super) struct Work<'a> {
    pub app: &'a App,
    pub taken: &'a Taken,
    pub resource: StoredResource,
    /// Desired state; `None` if an import has not read the object yet.
    pub spec: Option<Spec>,
    deployment: Uuid,
    /// Order in the provider's references; `None` while some are unknown.
    order: Option<Order>,
    /// Last read of the object.
    pub object: Option<Object>,
    until: Duration,
    /// Step and reference as stored.
    stored: (Step, Option<String>),
}

async fn work(app: &App, taken: &Taken, until: Duration) -> Result<Option<Instant>> {
    let Some((mut work, mut course)) = app.cloud.in_time(begin(app, taken, until)).await? else { return Ok(None) };
    let Some(provider) = app.cloud.providers.get(&work.resource.provider) else {
        // The operation is overdue, otherwise only a server with this provider would have claimed it.
        course.failure = Some(OperationError {
            code: "provider_unavailable".into(),
            detail: format!(
                "No server has the provider '{}' configured; ask the operator to configure it",
                work.resource.provider
            ),
            provider_code: None,
        });
        return ending::end(work, &course, End::Failed).await.map(|()| None);
    };
    loop {
        let next = course.decide();
        let heard = match next {
            Do::End(end) => return ending::end(work, &course, end).await.map(|()| None),
            Do::Wait(pause) => return work.put_down(&course, pause).await.map(Some),
            Do::Learn => {
                if !app.cloud.in_time(work.learn(&mut course)).await? {
                    return Ok(None);
                }
                continue;
            }
            next => {
                // Restoring has another target than the step before it.
                if course.step == Step::Restoring && work.stored.0 != Step::Restoring {
                    app.cloud.in_time(work.aim_again(&mut course)).await?;
                }
                if !matches!(next, Do::LookUp | Do::Read) && !work.intend(&course).await? {
                    return Ok(None);
                }
                work.call(&*provider.driver, &next, &course).await
            }
        };
        course.heard(heard);
    }
}

/// Reads the operation's context. `None` if its resource no longer exists.
async fn begin<'a>(app: &'a App, taken: &'a Taken, until: Duration) -> Result<Option<(Work<'a>, Course)>> {
    let mut db = app.cloud.connection(&app.db).await?;
    let Some(resource) = rows::resource(&mut db, taken.resource_id).await? else {
        db.done();
        return Ok(None);
    };
    let deployment = rows::deployment(&mut db).await?;
    let Some(step) = Step::of(&taken.step) else {
        return Err(Error::internal(format!("unknown operation step '{}' in this version", taken.step)));
    };
    let mut course = Course::new(taken.kind, step);
    course.attempt = taken.attempt.try_into().unwrap_or(0);
    course.reference.clone_from(&resource.provider_ref);
    course.failure = taken.error.as_ref().map(|error| error.0.clone());
    course.cancel = taken.cancel_requested;
    course.overdue = taken.overdue;
    course.enforce = taken.kind == OperationType::Remediate || resource.reconcile == Reconcile::Enforce;
    let stored = (step, resource.provider_ref.clone());
    let mut work = Work { app, taken, spec: None, resource, deployment, order: None, object: None, until, stored };
    work.aim(&mut db, &mut course).await?;
    db.done();
    Ok(Some((work, course)))
}

impl Work<'_> {
    async fn aim_again(&mut self, course: &mut Course) -> Result<()> {
        let mut db = self.app.cloud.connection(&self.app.db).await?;
        self.aim(&mut db, course).await?;
        db.done();
        Ok(())
    }

    /// Determines the desired state of the object, and whether the resources that it refers to exist.
    async fn aim(&mut self, db: &mut sqlx::PgConnection, course: &mut Course) -> Result<()> {
        let before = self.taken.before.spec.clone().filter(|_| course.step == Step::Restoring);
        let wanted = before.unwrap_or_else(|| self.resource.spec.0.clone());
        self.spec = Spec::from_json(self.resource.kind, wanted).ok();
        let Some(spec) = &self.spec else { return Ok(()) };
        let known = rows::references(db, spec).await?;
        course.referred = Referred::There;
        for (member, id) in spec.references() {
            let reference = known.get(id);
            let is_there = |phase| matches!(phase, Phase::Active | Phase::Updating);
            match reference.map(|reference| (reference.phase, &reference.provider_ref)) {
                Some((phase, Some(_))) if is_there(phase) => {}
                // A failed reference may be remediated, so a resource that already uses it does not wait.
                Some((Phase::Failed, Some(_))) if course.kind != OperationType::Create => {}
                Some((Phase::Pending | Phase::Provisioning | Phase::Active | Phase::Updating, _)) => {
                    course.referred = Referred::NotYet;
                }
                state => {
                    let phase = state.map_or("gone", |state| state.0.as_str());
                    let member = member.as_str();
                    course.referred = Referred::Never(format!(
                        "'{member}' refers to {id}, which is {phase}; use another resource, or delete both and create them again"
                    ));
                    return Ok(());
                }
            }
        }
        let spec = spec.in_names_of(|id| known.get(id).and_then(|reference| reference.provider_ref.clone()));
        self.order = spec.map(|spec| Order {
            tags: self.tags(),
            operation: self.taken.id,
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
    pub fn wanted(&self, course: &Course) -> Wanted<'_> {
        let power = match course.step {
            Step::Restoring => self.taken.before.desired_power,
            _ => self.resource.desired_power,
        };
        Wanted { tags: self.tags(), spec: self.order.as_ref().map(|order| &order.spec), power }
    }

    fn sight(&self, course: &Course) -> Sight {
        let object = self.object.as_ref();
        // An object without tags whose import has not completed still belongs to its previous owner.
        let is_ours = self.resource.observed_generation > 0 || object.is_none_or(|object| object.tags.is_some());
        match course.step {
            Step::Deleting | Step::Compensating if !is_ours => Sight::Foreign,
            _ => self.wanted(course).sight(object),
        }
    }

    /// Stores the step before its call, unless it is already stored. Returns whether the operation is still held.
    async fn intend(&mut self, course: &Course) -> Result<bool> {
        let lease = self.app.cloud.pace.lease;
        let is_stored = self.stored == (course.step, course.reference.clone());
        // A worker that was suspended must not make a call that another worker may have made meanwhile.
        if is_stored && since_boot() + lease.mul_f64(SAFE_PART) < self.until {
            return Ok(true);
        }
        let began = since_boot();
        let is_ours = self.save(course, Turn::Ours(lease)).await?;
        self.until = began + lease;
        Ok(is_ours)
    }

    async fn save(&mut self, course: &Course, turn: Turn) -> Result<bool> {
        let undoes = |step| matches!(step, Step::Compensating | Step::Restoring);
        let undo = (undoes(course.step) && !undoes(self.stored.0)).then_some(self.app.cloud.pace.give_up_after);
        let saved = async {
            let mut db = self.app.cloud.connection(&self.app.db).await?;
            let is_ours = queue::save(&mut db, self.taken, course, turn, undo).await?;
            db.done();
            Ok(is_ours)
        };
        let is_ours = self.app.cloud.in_time(saved).await?;
        self.stored = (course.step, course.reference.clone());
        Ok(is_ours)
    }

    async fn put_down(&mut self, course: &Course, pause: Pause) -> Result<Instant> {
        let pace = &self.app.cloud.pace;
        let pause = match pause {
            Pause::LookAgain => pace.look_again,
            Pause::Failed(after) => pace.pause(course.attempt, after),
        };
        self.save(course, Turn::Anybodys(pause)).await?;
        Ok(Instant::now() + pause)
    }

    async fn call(&mut self, driver: &dyn Driver, next: &Do, course: &Course) -> Heard {
        let heard = timeout(self.app.cloud.pace.call, self.ask(driver, next, course)).await;
        let late = |_| Err(DriverError::retryable("timeout", "the provider did not respond in time"));
        let heard = heard.unwrap_or_else(late);
        self.app.cloud.figures.add_call(&self.resource.provider, heard.is_err());
        heard.unwrap_or_else(|error| {
            tracing::debug!(%error, operation_id = %self.taken.id, step = course.step.as_str(), "provider call failed");
            Heard::Refused(error)
        })
    }

    async fn ask(
        &mut self,
        driver: &dyn Driver,
        next: &Do,
        course: &Course,
    ) -> std::result::Result<Heard, DriverError> {
        let kind = self.resource.kind;
        let reference = course.reference.as_deref().unwrap_or_default();
        // The machine waits until the references exist.
        let order =
            || self.order.as_ref().ok_or_else(|| DriverError::retryable("unknown", "the order is not complete yet"));
        Ok(match next {
            Do::LookUp => {
                let mut query =
                    ListQuery { kind, deployment: self.deployment, of: Owned::Of(self.resource.id), page: None };
                let mut found = Vec::new();
                loop {
                    let page = driver.list_owned(&query).await?;
                    let going = |object: &Object| object.state == crate::resources::driver::ObjectState::Deleting;
                    found.extend(page.objects.into_iter().map(|object| (object.reference.clone(), going(&object))));
                    if page.next.is_none() {
                        break Heard::Found(found);
                    }
                    query.page = page.next;
                }
            }
            Do::Create => Heard::Created(driver.create(order()?).await?.reference),
            Do::Read => {
                self.object = driver.read(kind, reference).await?;
                Heard::Seen(self.sight(course))
            }
            Do::Update => driver.update(reference, order()?).await.map(|()| Heard::Done)?,
            Do::Turn(power) => driver.action(kind, reference, Action::Power(*power)).await.map(|()| Heard::Done)?,
            Do::Reboot => driver.action(kind, reference, Action::Reboot).await.map(|()| Heard::Done)?,
            Do::Delete(reference) => driver.delete(kind, reference).await.map(|()| Heard::Done)?,
            Do::Learn | Do::Wait(_) | Do::End(_) => Heard::Done,
        })
    }

    /// Stores the state of an imported object as the desired state, with the ids of the project's resources. Returns
    /// whether the operation is still held.
    async fn learn(&mut self, course: &mut Course) -> Result<bool> {
        let Some(object) = &self.object else { return Err(Error::internal("an import has not read its object")) };
        let references: Vec<&str> = object.spec.references().map(|(_, reference)| reference.as_str()).collect();
        let mut db = self.app.cloud.connection(&self.app.db).await?;
        let place = (self.resource.project_id, self.resource.provider.as_str());
        let owners = rows::owners(&mut db, place, &references).await?;
        let mut observed = object.spec.clone();
        if let Spec::Instance(instance) = &mut observed {
            // A network that is not a resource is left to the provider.
            instance.network = instance.network.take().filter(|network| owners.contains_key(network));
        }
        let Some(spec) = observed.in_names_of(|reference| owners.get(reference).copied()) else {
            db.done();
            let message = "the object has attached volumes that are not resources of the project; import these first";
            course.heard(Heard::Refused(DriverError::new(
                crate::resources::driver::Refusal::Invalid,
                "unknown_volumes",
                message,
            )));
            return Ok(true);
        };
        if !queue::learn(&mut db, self.taken, &spec, object.power).await? {
            db.done();
            return Ok(false);
        }
        self.resource.spec.0 = spec.to_json();
        self.resource.desired_power = object.power;
        self.aim(&mut db, course).await?;
        db.done();
        course.heard(Heard::Done);
        Ok(true)
    }
}
