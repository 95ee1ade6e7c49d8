//! One turn at an operation: from where it stands until it has to wait, or has ended.

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

/// How much of a lease may be over when a call is begun that changes something.
const SAFE_PART: f64 = 0.5;

/// Goes on with an operation that was taken, and is ours until `until`, on the clock since boot. Gives when it is due
/// again, if it was put down.
pub async fn run(app: App, taken: Taken, until: Duration) -> Option<Instant> {
    // Polled together: a renewal that waits for the database never keeps the work from giving back what it holds.
    let ended = tokio::select! {
        // Where both have ended: a renewal finds nothing to renew once the work has given the operation back.
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
        tracing::warn!(%error, operation_id = %taken.id, resource_id = %taken.resource_id, "a step of an operation was broken off; it is taken up again");
        None
    })
}

fn took_too_long() -> Error {
    Error::new(Code::Timeout, "The turn at the operation took too long; the operation is taken up again")
}

/// Renews the lease until another server has taken the operation over: a turn is longer than a lease where a provider is
/// slow.
async fn keep(app: &App, taken: &Taken) {
    loop {
        sleep(app.cloud.pace.lease.mul_f64(SAFE_PART)).await;
        match app.cloud.in_time(renew(app, taken)).await {
            Ok(true) => {}
            Ok(false) => return,
            // It goes on as long as it is ours anyway.
            Err(error) => tracing::warn!(%error, operation_id = %taken.id, "an operation could not be kept"),
        }
    }
}

async fn renew(app: &App, taken: &Taken) -> Result<bool> {
    let mut db = app.cloud.renewal_connection(&app.db).await?;
    let is_ours = queue::renew(&mut db, taken, app.cloud.pace.lease).await?;
    db.done();
    Ok(is_ours)
}

/// An operation, its resource, and what a provider must know of them.
pub(super) struct Work<'a> {
    pub app: &'a App,
    pub taken: &'a Taken,
    pub resource: StoredResource,
    /// What is asked for; none where an import has not learnt it yet.
    pub spec: Option<Spec>,
    deployment: Uuid,
    /// The same in the provider's references, as far as there are any.
    order: Option<Order>,
    /// How the object looked last.
    pub object: Option<Object>,
    until: Duration,
    /// What is stored of the course.
    stored: (Step, Option<String>),
}

async fn work(app: &App, taken: &Taken, until: Duration) -> Result<Option<Instant>> {
    let Some((mut work, mut course)) = app.cloud.in_time(begin(app, taken, until)).await? else { return Ok(None) };
    let Some(provider) = app.cloud.providers.get(&work.resource.provider) else {
        // It is overdue, else another server would have it.
        course.failure = Some(OperationError {
            code: "provider_unavailable".into(),
            detail: format!("No server knows the provider '{}' any more; ask the operator", work.resource.provider),
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
                // Restoring aims at something else than what led to it.
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

/// Reads what there is to know of the operation. Nothing, if its resource is gone.
async fn begin<'a>(app: &'a App, taken: &'a Taken, until: Duration) -> Result<Option<(Work<'a>, Course)>> {
    let mut db = app.cloud.connection(&app.db).await?;
    let Some(resource) = rows::resource(&mut db, taken.resource_id).await? else {
        db.done();
        return Ok(None);
    };
    let deployment = rows::deployment(&mut db).await?;
    let Some(step) = Step::of(&taken.step) else {
        return Err(Error::internal(format!("this version knows no step '{}'", taken.step)));
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

    /// Finds out what the object shall be, and whether what that refers to is there.
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
                // What has failed may be mended; what uses it already does not wait for that.
                Some((Phase::Failed, Some(_))) if course.kind != OperationType::Create => {}
                Some((Phase::Pending | Phase::Provisioning | Phase::Active | Phase::Updating, _)) => {
                    course.referred = Referred::NotYet;
                }
                state => {
                    let phase = state.map_or("gone", |state| state.0.as_str());
                    let member = member.as_str();
                    course.referred = Referred::Never(format!(
                        "{id}, which is named as '{member}', is {phase}; name another one, or delete both and begin anew"
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

    /// What the object is compared with.
    pub fn wanted(&self, course: &Course) -> Wanted<'_> {
        let power = match course.step {
            Step::Restoring => self.taken.before.desired_power,
            _ => self.resource.desired_power,
        };
        Wanted { tags: self.tags(), spec: self.order.as_ref().map(|order| &order.spec), power }
    }

    fn sight(&self, course: &Course) -> Sight {
        let object = self.object.as_ref();
        // What was to be imported and never was is still somebody else's.
        let is_ours = self.resource.observed_generation > 0 || object.is_none_or(|object| object.tags.is_some());
        match course.step {
            Step::Deleting | Step::Compensating if !is_ours => Sight::Foreign,
            _ => self.wanted(course).sight(object),
        }
    }

    /// Stores the step before its call is made, unless it is stored; gives whether the operation is still ours.
    async fn intend(&mut self, course: &Course) -> Result<bool> {
        let lease = self.app.cloud.pace.lease;
        let is_stored = self.stored == (course.step, course.reference.clone());
        // A worker that was stopped for a while must not make a call that another one may have made in the meantime.
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
        let late = |_| Err(DriverError::retryable("timeout", "the provider did not answer in time"));
        let heard = heard.unwrap_or_else(late);
        self.app.cloud.figures.add_call(&self.resource.provider, heard.is_err());
        heard.unwrap_or_else(|error| {
            tracing::debug!(%error, operation_id = %self.taken.id, step = course.step.as_str(), "a provider refused");
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
        // The machine waits where what is referred to is not there.
        let order =
            || self.order.as_ref().ok_or_else(|| DriverError::retryable("unknown", "the order is not known yet"));
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

    /// Makes what an imported object is what is asked for, in the ids of the project's resources; gives whether the
    /// operation is still ours.
    async fn learn(&mut self, course: &mut Course) -> Result<bool> {
        let Some(object) = &self.object else { return Err(Error::internal("nothing was read that could be learnt")) };
        let references: Vec<&str> = object.spec.references().map(|(_, reference)| reference.as_str()).collect();
        let mut db = self.app.cloud.connection(&self.app.db).await?;
        let place = (self.resource.project_id, self.resource.provider.as_str());
        let owners = rows::owners(&mut db, place, &references).await?;
        let mut observed = object.spec.clone();
        if let Spec::Instance(instance) = &mut observed {
            // Which network it is in is left to the provider where that is no resource.
            instance.network = instance.network.take().filter(|network| owners.contains_key(network));
        }
        let Some(spec) = observed.in_names_of(|reference| owners.get(reference).copied()) else {
            db.done();
            let message = "volumes are attached to it that are no resources of the project; import these first";
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
