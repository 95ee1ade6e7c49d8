//! A resource, its operation, and workers that behave like the engine.

use super::provider::{Call, Provider};
use crate::resources::{
    driver::{DriverError, ObjectState, Refusal},
    kind::Power,
    lifecycle::{End, OperationType, Phase},
    machine::{Course, Do, Heard, Pause, Referred, Sight, Step},
    model::OperationError,
};

/// Fault in a turn.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Nothing,
    /// The worker dies before its first call that changes something.
    DiesBefore,
    /// The worker dies after that call, before it stores the result.
    DiesAfter,
    /// The worker stops before the call, and makes it when it continues, after its lease.
    Stopped,
    /// The provider executes the call, and the response is lost.
    AnswerLost,
    /// The provider is busy and does nothing.
    Busy,
    /// The provider denies the call.
    Denied,
}

/// Event in the world.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Turn(Fault),
    Ask(OperationType, u32),
    Cancel,
    Overdue,
    /// A third party changes or deletes the object.
    Changed(u32),
    Deleted,
    LateCalls,
    Sweep,
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: OperationType,
    pub token: u32,
    pub step: Step,
    pub attempt: u32,
    pub failure: Option<OperationError>,
    pub cancel: bool,
    pub overdue: bool,
    pub began_as: Phase,
    pub before: (u32, Power),
}

#[derive(Debug)]
pub struct World {
    pub provider: Provider,
    pub phase: Phase,
    pub spec: u32,
    pub power: Power,
    pub reference: Option<String>,
    pub enforce: bool,
    pub operation: Option<Operation>,
    pub begun: u32,
}

impl World {
    pub fn new(knows_tokens: bool, enforce: bool) -> Self {
        let provider = Provider { things: Vec::new(), made: 0, knows_tokens, late: Vec::new() };
        let mut world = Self {
            provider,
            phase: Phase::Pending,
            spec: 1,
            power: Power::On,
            reference: None,
            enforce,
            operation: None,
            begun: 0,
        };
        world.begin(OperationType::Create, (1, Power::On));
        world
    }

    pub fn begin(&mut self, kind: OperationType, before: (u32, Power)) {
        self.begun += 1;
        let step = Step::Queued;
        let began_as = self.phase;
        let operation = Operation {
            kind,
            token: self.begun,
            step,
            attempt: 0,
            failure: None,
            cancel: false,
            overdue: false,
            began_as,
            before,
        };
        self.operation = Some(operation);
        self.become_(self.phase.during(kind));
    }

    pub fn become_(&mut self, phase: Phase) {
        assert!(self.phase == phase || self.phase.may_become(phase), "{:?} became {phase:?}", self.phase);
        self.phase = phase;
    }

    pub fn ask(&mut self, kind: OperationType, value: u32) {
        if self.operation.is_some() || !self.phase.admits(kind, self.reference.is_some()) {
            return;
        }
        let before = (self.spec, self.power);
        match kind {
            OperationType::Update => self.spec = value,
            OperationType::Start => self.power = Power::On,
            OperationType::Stop => self.power = Power::Off,
            _ => {}
        }
        self.begin(kind, before);
    }

    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(fault) => self.turn(fault),
            Event::Ask(kind, value) => self.ask(kind, value),
            Event::Cancel => {
                if let Some(operation) = &mut self.operation {
                    operation.cancel |= Course::can_be_canceled(operation.kind, operation.step);
                }
            }
            Event::Overdue => {
                if let Some(operation) = &mut self.operation {
                    operation.overdue = true;
                }
            }
            Event::Changed(spec) => {
                if let Some(thing) = self.provider.things.first_mut() {
                    thing.spec = spec;
                }
            }
            Event::Deleted => {
                if !self.provider.things.is_empty() {
                    self.provider.things.remove(0);
                }
            }
            Event::LateCalls => {
                for call in std::mem::take(&mut self.provider.late) {
                    let _ = self.provider.take(call);
                }
            }
            Event::Sweep => self.sweep(),
        }
        self.provider.tick();
    }

    pub fn sight(&mut self, wanted: (u32, Power)) -> Sight {
        let Some(reference) = self.reference.clone() else { return Sight::Missing };
        let Some(thing) = self.provider.find(&reference) else { return Sight::Missing };
        let state = match (thing.is_going, thing.busy) {
            (true, _) => ObjectState::Deleting,
            (false, 0) => ObjectState::Ready,
            _ => ObjectState::Busy,
        };
        Sight::of(state, None, thing.spec != wanted.0, (Some(wanted.1), Some(thing.power)))
    }

    /// Runs a turn as the engine does.
    pub fn turn(&mut self, fault: Fault) {
        let Some(operation) = self.operation.clone() else { return };
        if self.phase == Phase::Pending {
            self.become_(Phase::Provisioning);
        }
        let mut course = Course::new(operation.kind, operation.step);
        course.attempt = operation.attempt;
        course.reference.clone_from(&self.reference);
        course.failure.clone_from(&operation.failure);
        (course.cancel, course.overdue) = (operation.cancel, operation.overdue);
        course.enforce = self.enforce || operation.kind == OperationType::Remediate;
        course.referred = Referred::There;
        let mut has_failed = false;
        for _ in 0..100 {
            let next = course.decide();
            let wanted = if course.step == Step::Restoring { operation.before } else { (self.spec, self.power) };
            let reference = course.reference.clone().unwrap_or_default();
            let call = match next {
                Do::End(end) => return self.end(&course, end),
                Do::Wait(pause) => {
                    assert!(pause == Pause::LookAgain || course.attempt > 0);
                    return self.save(&course);
                }
                Do::LookUp => {
                    let things = self.provider.things.iter();
                    course.heard(Heard::Found(things.map(|thing| (thing.reference.clone(), thing.is_going)).collect()));
                    continue;
                }
                Do::Read => {
                    let recorded = std::mem::replace(&mut self.reference, course.reference.clone());
                    let sight = self.sight(wanted);
                    self.reference = recorded;
                    course.heard(Heard::Seen(sight));
                    continue;
                }
                Do::Create => Call::Create { token: operation.token, spec: wanted.0 },
                Do::Update => Call::Update { reference, spec: wanted.0 },
                Do::Turn(power) => Call::Turn { reference, power },
                Do::Reboot => Call::Turn { reference, power: Power::On },
                Do::Delete(reference) => Call::Delete { reference },
                Do::Learn => unreachable!("the model has no imports"),
            };
            self.save(&course);
            let heard = match std::mem::replace(&mut has_failed, true) {
                true => self.provider.take(call),
                false => match fault {
                    Fault::Nothing => self.provider.take(call),
                    Fault::DiesBefore => return,
                    Fault::DiesAfter => {
                        let _ = self.provider.take(call);
                        return;
                    }
                    Fault::Stopped => return self.provider.late.push(call),
                    Fault::AnswerLost => {
                        let _ = self.provider.take(call);
                        Err(DriverError::retryable("lost", "lost"))
                    }
                    Fault::Busy => Err(DriverError::retryable("busy", "busy")),
                    Fault::Denied => Err(DriverError::new(Refusal::Denied, "denied", "denied")),
                },
            };
            course.heard(heard.unwrap_or_else(Heard::Refused));
        }
        panic!("the turn does not end: {course:?}");
    }

    pub fn save(&mut self, course: &Course) {
        let undoes = |step| matches!(step, Step::Compensating | Step::Restoring);
        self.reference.clone_from(&course.reference);
        if let Some(operation) = &mut self.operation {
            // A revert gets more time.
            operation.overdue &= !undoes(course.step) || undoes(operation.step);
            operation.step = course.step;
            operation.attempt = course.attempt;
            operation.failure.clone_from(&course.failure);
        }
    }

    pub fn end(&mut self, course: &Course, end: End) {
        let operation = self.operation.take().expect("an operation is in progress");
        self.reference.clone_from(&course.reference);
        assert_eq!(end == End::Failed, course.failure.is_some(), "{course:?}");
        let looked = matches!(operation.kind, OperationType::Sync | OperationType::Remediate);
        let mut phase = operation.began_as.after(course.kind, end, course.reference.is_some());
        match (end, &course.sight) {
            (End::Succeeded, Some(Sight::Missing)) if looked => phase = Phase::Failed,
            (End::Succeeded, Some(Sight::AsAsked)) => {}
            (End::Succeeded, _) if looked => phase = operation.began_as,
            (End::Canceled, _) if operation.kind == OperationType::Update => (self.spec, self.power) = operation.before,
            (End::Canceled, _) => self.power = operation.before.1,
            _ => {}
        }
        if self.phase != phase && phase == Phase::Active && self.phase == Phase::Failed {
            self.phase = phase;
        }
        self.become_(phase);
        if end == End::Succeeded && operation.kind == OperationType::Delete {
            assert!(self.provider.things.is_empty(), "{:?}", self.provider.things);
        }
        // A completed revert leaves no object, except from calls that arrive late.
        if end == End::Canceled && course.step == Step::Compensating {
            assert!(self.provider.things.is_empty(), "{:?}", self.provider.things);
        }
    }

    /// Sweeps as the reconcile loop does.
    pub fn sweep(&mut self) {
        if self.operation.is_some() {
            return;
        }
        let recorded = self.reference.clone().filter(|_| self.phase != Phase::Deleted);
        self.provider.things.retain(|thing| Some(&thing.reference) == recorded.as_ref());
        if recorded.is_some() && self.provider.things.is_empty() && self.phase == Phase::Active {
            self.become_(Phase::Failed);
        }
    }

    /// Runs without faults until everything has ended.
    pub fn calm(&mut self) {
        self.happen(Event::LateCalls);
        for _ in 0..60 {
            self.happen(Event::Turn(Fault::Nothing));
        }
        assert!(self.operation.is_none(), "{:?}", self.operation);
        // A sweep marks a missing object, and deletes objects that belong to no resource.
        for _ in 0..3 {
            self.happen(Event::Sweep);
        }
    }
}
