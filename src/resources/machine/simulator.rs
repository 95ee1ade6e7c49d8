//! The machine against a model: a resource, a provider that is slow, loses answers and changes by itself, and workers that
//! die, or are stopped for a while and go on with what they were about, between any two steps.

use proptest::prelude::*;

use super::{Course, Do, End, Heard, Pause, Referred, Sight, Step};
use crate::resources::{
    driver::{DriverError, ObjectState, Refusal},
    kind::Power,
    lifecycle::{OperationType, Phase},
    model::Failure,
};

/// An object at the provider.
#[derive(Clone, Debug)]
struct Thing {
    reference: String,
    token: u32,
    spec: u32,
    power: Power,
    /// For how many more looks it is busy; and whether that is its end.
    busy: u32,
    is_going: bool,
}

/// A call that reaches the provider, at once or later.
#[derive(Clone, Debug)]
enum Call {
    Create { token: u32, spec: u32 },
    Update { reference: String, spec: u32 },
    Turn { reference: String, power: Power },
    Delete { reference: String },
}

#[derive(Clone, Debug)]
struct Provider {
    things: Vec<Thing>,
    made: u32,
    /// Whether the same token makes one thing, however often.
    knows_tokens: bool,
    /// Calls of workers that were stopped, which come when these go on.
    late: Vec<Call>,
}

impl Provider {
    fn find(&mut self, reference: &str) -> Option<&mut Thing> {
        self.things.iter_mut().find(|thing| thing.reference == reference)
    }

    fn take(&mut self, call: Call) -> Result<Heard, DriverError> {
        let gone = || DriverError::new(Refusal::NotFound, "gone", "gone");
        match call {
            Call::Create { token, spec } => {
                let known = self.things.iter().find(|thing| self.knows_tokens && thing.token == token);
                if let Some(known) = known {
                    return Ok(Heard::Created(known.reference.clone()));
                }
                self.made += 1;
                let reference = format!("thing-{}", self.made);
                let thing =
                    Thing { reference: reference.clone(), token, spec, power: Power::On, busy: 1, is_going: false };
                self.things.push(thing);
                Ok(Heard::Created(reference))
            }
            Call::Update { reference, spec } => {
                let thing = self.find(&reference).filter(|thing| !thing.is_going).ok_or_else(gone)?;
                (thing.spec, thing.busy) = (spec, 1);
                Ok(Heard::Done)
            }
            Call::Turn { reference, power } => {
                let thing = self.find(&reference).filter(|thing| !thing.is_going).ok_or_else(gone)?;
                (thing.power, thing.busy) = (power, 1);
                Ok(Heard::Done)
            }
            Call::Delete { reference } => {
                if let Some(thing) = self.find(&reference) {
                    (thing.is_going, thing.busy) = (true, 1);
                }
                Ok(Heard::Done)
            }
        }
    }

    /// Time passes.
    fn tick(&mut self) {
        self.things.retain(|thing| !(thing.is_going && thing.busy == 0));
        for thing in &mut self.things {
            thing.busy = thing.busy.saturating_sub(1);
        }
    }
}

/// What goes wrong in a turn.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    /// The worker dies before its first call that changes something.
    DiesBefore,
    /// After it, before it can note what came of it.
    DiesAfter,
    /// It is stopped before the call, which comes when it goes on, after its lease.
    Stopped,
    /// The provider does it, and the answer is lost.
    AnswerLost,
    /// The provider does nothing.
    Busy,
    /// The provider will not.
    Denied,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Turn(Fault),
    Ask(OperationType, u32),
    Cancel,
    Overdue,
    /// Somebody else changes, or deletes, the object.
    Changed(u32),
    Deleted,
    LateCalls,
    Sweep,
}

#[derive(Clone, Debug)]
struct Operation {
    kind: OperationType,
    token: u32,
    step: Step,
    attempt: u32,
    failure: Option<Failure>,
    cancel: bool,
    overdue: bool,
    began_as: Phase,
    before: (u32, Power),
}

#[derive(Debug)]
struct World {
    provider: Provider,
    phase: Phase,
    spec: u32,
    power: Power,
    reference: Option<String>,
    enforce: bool,
    operation: Option<Operation>,
    begun: u32,
}

impl World {
    fn new(knows_tokens: bool, enforce: bool) -> Self {
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

    fn begin(&mut self, kind: OperationType, before: (u32, Power)) {
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

    fn become_(&mut self, phase: Phase) {
        assert!(self.phase == phase || self.phase.may_become(phase), "{:?} became {phase:?}", self.phase);
        self.phase = phase;
    }

    fn ask(&mut self, kind: OperationType, value: u32) {
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

    fn happen(&mut self, event: Event) {
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

    fn sight(&mut self, wanted: (u32, Power)) -> Sight {
        let Some(reference) = self.reference.clone() else { return Sight::Missing };
        let Some(thing) = self.provider.find(&reference) else { return Sight::Missing };
        let state = match (thing.is_going, thing.busy) {
            (true, _) => ObjectState::Deleting,
            (false, 0) => ObjectState::Ready,
            _ => ObjectState::Busy,
        };
        Sight::of(state, None, thing.spec != wanted.0, (Some(wanted.1), Some(thing.power)))
    }

    /// As the engine has it.
    fn turn(&mut self, fault: Fault) {
        let Some(operation) = self.operation.clone() else { return };
        if self.phase == Phase::Pending {
            self.become_(Phase::Provisioning);
        }
        let mut course = Course::new(operation.kind, operation.step);
        course.attempt = operation.attempt;
        course.reference.clone_from(&self.reference);
        course.failure.clone_from(&operation.failure);
        (course.cancel, course.overdue) = (operation.cancel, operation.overdue);
        course.enforce = self.enforce || operation.kind == OperationType::Mend;
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
                Do::Learn => unreachable!("nothing is imported here"),
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
        panic!("a turn has no end: {course:?}");
    }

    fn save(&mut self, course: &Course) {
        let undoes = |step| matches!(step, Step::Compensating | Step::Restoring);
        self.reference.clone_from(&course.reference);
        if let Some(operation) = &mut self.operation {
            // What is being undone is given more time.
            operation.overdue &= !undoes(course.step) || undoes(operation.step);
            operation.step = course.step;
            operation.attempt = course.attempt;
            operation.failure.clone_from(&course.failure);
        }
    }

    fn end(&mut self, course: &Course, end: End) {
        let operation = self.operation.take().expect("it has not ended");
        self.reference.clone_from(&course.reference);
        assert_eq!(end == End::Failed, course.failure.is_some(), "{course:?}");
        let looked = matches!(operation.kind, OperationType::Sync | OperationType::Mend);
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
        // What was undone, whole, has left nothing but what comes late.
        if end == End::Canceled && course.step == Step::Compensating {
            assert!(self.provider.things.is_empty(), "{:?}", self.provider.things);
        }
    }

    /// As the reconcile loop has it.
    fn sweep(&mut self) {
        if self.operation.is_some() {
            return;
        }
        let recorded = self.reference.clone().filter(|_| self.phase != Phase::Deleted);
        self.provider.things.retain(|thing| Some(&thing.reference) == recorded.as_ref());
        if recorded.is_some() && self.provider.things.is_empty() && self.phase == Phase::Active {
            self.become_(Phase::Failed);
        }
    }

    /// Everything comes to its end, undisturbed.
    fn calm(&mut self) {
        self.happen(Event::LateCalls);
        for _ in 0..60 {
            self.happen(Event::Turn(Fault::Nothing));
        }
        assert!(self.operation.is_none(), "{:?}", self.operation);
        // What a sweep finds missing is mended, or made again, or was deleted.
        for _ in 0..3 {
            self.happen(Event::Sweep);
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    use Fault as F;
    prop_oneof![
        6 => Just(F::Nothing),
        2 => Just(F::DiesBefore),
        2 => Just(F::DiesAfter),
        2 => Just(F::Stopped),
        2 => Just(F::AnswerLost),
        1 => Just(F::Busy),
        1 => Just(F::Denied),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    use OperationType as T;
    let asked = prop::sample::select(vec![T::Update, T::Start, T::Stop, T::Reboot, T::Sync, T::Mend, T::Delete]);
    prop_oneof![
        12 => fault().prop_map(Event::Turn),
        4 => (asked, 1..5u32).prop_map(|(kind, value)| Event::Ask(kind, value)),
        1 => Just(Event::Cancel),
        1 => Just(Event::Overdue),
        1 => (1..5u32).prop_map(Event::Changed),
        1 => Just(Event::Deleted),
        2 => Just(Event::LateCalls),
        1 => Just(Event::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// However workers die, answers are lost and others meddle: in the end there is one object for each resource
    /// that should have one, as asked, and none for any other.
    #[test]
    fn in_the_end_there_is_one_object_for_what_is_there_and_none_for_what_is_not(
        knows_tokens: bool,
        enforce: bool,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(knows_tokens, enforce);
        for event in events {
            world.happen(event);
        }
        world.calm();
        let World { phase, reference, provider, .. } = &world;
        match (phase, reference) {
            (Phase::Deleted, _) | (Phase::Failed, None) => prop_assert!(provider.things.is_empty(), "{provider:?}"),
            (Phase::Failed, Some(_)) => prop_assert!(provider.things.len() <= 1, "{provider:?}"),
            (Phase::Active, Some(reference)) => {
                prop_assert_eq!(provider.things.len(), 1);
                let thing = &provider.things[0];
                prop_assert_eq!(&thing.reference, reference);
                if enforce {
                    // What somebody else has changed is seen by a look.
                    world.ask(OperationType::Sync, 0);
                    world.calm();
                    let thing = &world.provider.things[0];
                    prop_assert_eq!((thing.spec, thing.power), (world.spec, world.power));
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// Undisturbed, an operation does what it says in a few turns.
    #[test]
    fn undisturbed_each_operation_does_what_it_says(
        asked in prop::collection::vec((prop::sample::select(vec![OperationType::Update, OperationType::Start, OperationType::Stop]), 1..5u32), 0..8),
    ) {
        let mut world = World::new(true, false);
        world.calm();
        for (kind, value) in asked {
            world.ask(kind, value);
            world.calm();
            let thing = &world.provider.things[0];
            prop_assert_eq!((world.phase, thing.spec, thing.power), (Phase::Active, world.spec, world.power));
        }
        world.ask(OperationType::Delete, 0);
        world.calm();
        prop_assert_eq!(world.phase, Phase::Deleted);
        prop_assert!(world.provider.things.is_empty());
    }
}
