//! The state machine against a model: a resource, and a provider that is slow, loses responses and changes objects.
//! Between any two steps, workers die, or stop for a while and then make the call that they were about to make.

mod model;
mod provider;

use proptest::prelude::*;

use crate::resources::{
    engine::{
        lifecycle::{OperationOutcome, OperationType, Phase},
        machine::{Command, Event, Observation, OperationState, Step},
    },
    kinds::Power,
};
use model::{Fault, Model, ModelEvent};

fn fault() -> impl Strategy<Value = Fault> {
    use Fault as F;
    prop_oneof![
        6 => Just(F::None),
        2 => Just(F::CrashBeforeCall),
        2 => Just(F::CrashAfterCall),
        2 => Just(F::Suspended),
        2 => Just(F::ResponseLost),
        1 => Just(F::Busy),
        1 => Just(F::Denied),
    ]
}

fn event() -> impl Strategy<Value = ModelEvent> {
    use OperationType as T;
    let requests =
        prop::sample::select(vec![T::Update, T::Start, T::Stop, T::Reboot, T::Sync, T::Remediate, T::Delete]);
    prop_oneof![
        12 => fault().prop_map(ModelEvent::RunStep),
        4 => (requests, 1..5u32).prop_map(|(kind, value)| ModelEvent::Request(kind, value)),
        1 => Just(ModelEvent::Cancel),
        1 => Just(ModelEvent::Overdue),
        1 => (1..5u32).prop_map(ModelEvent::ExternalChange),
        1 => Just(ModelEvent::ExternalDeletion),
        2 => Just(ModelEvent::LateCalls),
        1 => Just(ModelEvent::Sweep),
    ]
}

#[test]
fn instance_that_does_not_stay_on_fails_after_ten_attempts() {
    let mut state = OperationState::new(OperationType::Start, Step::Converging);
    state.reference = Some("thing-1".into());
    let mut power_calls = 0;
    loop {
        match state.decide() {
            Command::Read => state.handle(Event::Observed(Observation::PowerDiffers(Power::On))),
            Command::SetPower(Power::On) => {
                power_calls += 1;
                state.handle(Event::Done);
            }
            Command::Wait(_) => {}
            Command::End(end) => break assert_eq!((end, power_calls), (OperationOutcome::Failed, 10)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(state.failure.unwrap().code, "failed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever workers, responses and third parties do: finally each resource that should have an object has exactly
    /// one, as specified, and no other object exists.
    #[test]
    fn finally_each_resource_has_exactly_its_object(
        supports_client_tokens: bool,
        enforce: bool,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new(supports_client_tokens, enforce);
        for event in events {
            model.apply(event);
        }
        model.settle();
        let Model { phase, reference, provider, .. } = &model;
        match (phase, reference) {
            (Phase::Deleted, _) | (Phase::Failed, None) => prop_assert!(provider.objects.is_empty(), "{provider:?}"),
            (Phase::Failed, Some(_)) => prop_assert!(provider.objects.len() <= 1, "{provider:?}"),
            (Phase::Active, Some(reference)) => {
                prop_assert_eq!(provider.objects.len(), 1);
                let object = &provider.objects[0];
                prop_assert_eq!(&object.reference, reference);
                if enforce {
                    // A sync detects changes by third parties.
                    model.request(OperationType::Sync, 0);
                    model.settle();
                    let object = &model.provider.objects[0];
                    prop_assert_eq!((object.spec, object.power), (model.spec, model.power));
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// A worker that dies never causes a second object, whether or not the provider supports client tokens, because the
    /// next worker checks first. Only a stopped worker whose call arrives late can.
    #[test]
    fn object_of_a_dead_worker_is_found_and_not_created_again(
        supports_client_tokens: bool,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new(supports_client_tokens, true);
        for event in events.into_iter().filter(|event| !matches!(event, ModelEvent::RunStep(Fault::Suspended))) {
            model.apply(event);
            prop_assert!(model.provider.objects.iter().filter(|object| !object.is_deleting).count() <= 1, "{:?}", model.provider);
        }
    }

    /// Without faults, an operation completes within a few step runs.
    #[test]
    fn without_faults_each_operation_reaches_its_goal(
        requests in prop::collection::vec((prop::sample::select(vec![OperationType::Update, OperationType::Start, OperationType::Stop]), 1..5u32), 0..8),
    ) {
        let mut model = Model::new(true, false);
        model.settle();
        for (kind, value) in requests {
            model.request(kind, value);
            model.settle();
            let object = &model.provider.objects[0];
            prop_assert_eq!((model.phase, object.spec, object.power), (Phase::Active, model.spec, model.power));
        }
        model.request(OperationType::Delete, 0);
        model.settle();
        prop_assert_eq!(model.phase, Phase::Deleted);
        prop_assert!(model.provider.objects.is_empty());
    }
}
