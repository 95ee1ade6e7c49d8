//! The state machine against a model: a resource, and a provider that is slow, loses responses and changes objects.
//! Between any two steps, workers die, or stop for a while and then make the call that they were about to make.

mod provider;
mod world;

use proptest::prelude::*;

use crate::resources::{
    kind::Power,
    lifecycle::{End, OperationType, Phase},
    machine::{Course, Do, Heard, Sight, Step},
};
use world::{Event, Fault, World};

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
    let asked = prop::sample::select(vec![T::Update, T::Start, T::Stop, T::Reboot, T::Sync, T::Remediate, T::Delete]);
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

#[test]
fn instance_that_does_not_stay_on_fails_after_ten_attempts() {
    let mut course = Course::new(OperationType::Start, Step::Converging);
    course.reference = Some("thing-1".into());
    let mut turns = 0;
    loop {
        match course.decide() {
            Do::Read => course.heard(Heard::Seen(Sight::Turn(Power::On))),
            Do::Turn(Power::On) => {
                turns += 1;
                course.heard(Heard::Done);
            }
            Do::Wait(_) => {}
            Do::End(end) => break assert_eq!((end, turns), (End::Failed, 10)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(course.failure.unwrap().code, "failed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever workers, responses and third parties do: finally each resource that should have an object has exactly
    /// one, as specified, and no other object exists.
    #[test]
    fn finally_each_resource_has_exactly_its_object(
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
                    // A sync detects changes by third parties.
                    world.ask(OperationType::Sync, 0);
                    world.calm();
                    let thing = &world.provider.things[0];
                    prop_assert_eq!((thing.spec, thing.power), (world.spec, world.power));
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// A worker that dies never causes a second object, whether or not the provider supports client tokens, because the
    /// next worker checks first. Only a stopped worker whose call arrives late can.
    #[test]
    fn object_of_a_dead_worker_is_found_and_not_created_again(
        knows_tokens: bool,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(knows_tokens, true);
        for event in events.into_iter().filter(|event| !matches!(event, Event::Turn(Fault::Stopped))) {
            world.happen(event);
            prop_assert!(world.provider.things.iter().filter(|thing| !thing.is_going).count() <= 1, "{:?}", world.provider);
        }
    }

    /// Without faults, an operation completes within a few turns.
    #[test]
    fn without_faults_each_operation_reaches_its_goal(
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
