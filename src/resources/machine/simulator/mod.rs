//! The machine against a model: a resource, a provider that is slow, loses answers and changes by itself, and workers that
//! die, or are stopped for a while and go on with what they were about, between any two steps.

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
fn what_does_not_stay_on_is_turned_on_a_few_times_and_then_given_up() {
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

    /// A worker that dies has nothing made twice, whether or not its provider knows client tokens: whoever takes over looks
    /// first. Only what was held up and comes late can.
    #[test]
    fn what_a_dead_worker_has_made_is_found_and_not_made_again(
        knows_tokens: bool,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(knows_tokens, true);
        for event in events.into_iter().filter(|event| !matches!(event, Event::Turn(Fault::Stopped))) {
            world.happen(event);
            prop_assert!(world.provider.things.iter().filter(|thing| !thing.is_going).count() <= 1, "{:?}", world.provider);
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
