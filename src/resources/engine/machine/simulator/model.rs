//! A resource, its operation, and workers that behave like the engine.

use super::provider::{Call, Provider};
use crate::resources::{
    api::model::OperationError,
    drivers::driver::{DriverError, DriverErrorKind, ObjectState},
    engine::{
        lifecycle::{OperationOutcome, OperationType, Phase},
        machine::{Command, Event, Observation, OperationState, Pause, ReferenceState, Step},
    },
    kinds::Power,
};

/// Fault in a step run.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// The worker dies before its first call that changes something.
    CrashBeforeCall,
    /// The worker dies after that call, before it stores the result.
    CrashAfterCall,
    /// The worker stops before the call, and makes it when it continues, after its lease.
    Suspended,
    /// The provider executes the call, and the response is lost.
    ResponseLost,
    /// The provider is busy and does nothing.
    Busy,
    /// The provider denies the call.
    Denied,
}

/// Stimulus of the model.
#[derive(Clone, Copy, Debug)]
pub enum ModelEvent {
    RunStep(Fault),
    Request(OperationType, u32),
    Cancel,
    Overdue,
    /// A third party changes or deletes the object.
    ExternalChange(u32),
    ExternalDeletion,
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
    pub is_cancel_requested: bool,
    pub is_overdue: bool,
    pub phase_before: Phase,
    pub before: (u32, Power),
}

#[derive(Debug)]
pub struct Model {
    pub provider: Provider,
    pub phase: Phase,
    pub spec: u32,
    pub power: Power,
    pub reference: Option<String>,
    pub enforce: bool,
    pub operation: Option<Operation>,
    pub operation_count: u32,
}

impl Model {
    pub fn new(supports_client_tokens: bool, enforce: bool) -> Self {
        let provider =
            Provider { objects: Vec::new(), created_count: 0, supports_client_tokens, late_calls: Vec::new() };
        let mut model = Self {
            provider,
            phase: Phase::Pending,
            spec: 1,
            power: Power::On,
            reference: None,
            enforce,
            operation: None,
            operation_count: 0,
        };
        model.begin(OperationType::Create, (1, Power::On));
        model
    }

    pub fn begin(&mut self, kind: OperationType, before: (u32, Power)) {
        self.operation_count += 1;
        let step = Step::Queued;
        let phase_before = self.phase;
        let operation = Operation {
            kind,
            token: self.operation_count,
            step,
            attempt: 0,
            failure: None,
            is_cancel_requested: false,
            is_overdue: false,
            phase_before,
            before,
        };
        self.operation = Some(operation);
        self.set_phase(self.phase.during(kind));
    }

    pub fn set_phase(&mut self, phase: Phase) {
        assert!(self.phase == phase || self.phase.can_become(phase), "{:?} became {phase:?}", self.phase);
        self.phase = phase;
    }

    pub fn request(&mut self, kind: OperationType, value: u32) {
        if self.operation.is_some() || !self.phase.allows(kind, self.reference.is_some()) {
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

    pub fn apply(&mut self, event: ModelEvent) {
        match event {
            ModelEvent::RunStep(fault) => self.run_step(fault),
            ModelEvent::Request(kind, value) => self.request(kind, value),
            ModelEvent::Cancel => {
                if let Some(operation) = &mut self.operation {
                    operation.is_cancel_requested |= OperationState::can_be_canceled(operation.kind, operation.step);
                }
            }
            ModelEvent::Overdue => {
                if let Some(operation) = &mut self.operation {
                    operation.is_overdue = true;
                }
            }
            ModelEvent::ExternalChange(spec) => {
                if let Some(object) = self.provider.objects.first_mut() {
                    object.spec = spec;
                }
            }
            ModelEvent::ExternalDeletion => {
                if !self.provider.objects.is_empty() {
                    self.provider.objects.remove(0);
                }
            }
            ModelEvent::LateCalls => {
                for call in std::mem::take(&mut self.provider.late_calls) {
                    let _ = self.provider.execute(call);
                }
            }
            ModelEvent::Sweep => self.sweep(),
        }
        self.provider.tick();
    }

    pub fn observe(&mut self, desired: (u32, Power)) -> Observation {
        let Some(reference) = self.reference.clone() else { return Observation::Missing };
        let Some(object) = self.provider.find(&reference) else { return Observation::Missing };
        let state = match (object.is_deleting, object.busy) {
            (true, _) => ObjectState::Deleting,
            (false, 0) => ObjectState::Ready,
            _ => ObjectState::Busy,
        };
        Observation::of(state, None, object.spec != desired.0, (Some(desired.1), Some(object.power)))
    }

    /// Runs steps as the engine does.
    pub fn run_step(&mut self, fault: Fault) {
        let Some(operation) = self.operation.clone() else { return };
        if self.phase == Phase::Pending {
            self.set_phase(Phase::Provisioning);
        }
        let mut state = OperationState::new(operation.kind, operation.step);
        state.attempt = operation.attempt;
        state.reference.clone_from(&self.reference);
        state.failure.clone_from(&operation.failure);
        (state.is_cancel_requested, state.is_overdue) = (operation.is_cancel_requested, operation.is_overdue);
        state.enforce = self.enforce || operation.kind == OperationType::Remediate;
        state.references = ReferenceState::Ready;
        let mut has_faulted = false;
        for _ in 0..100 {
            let next = state.decide();
            let desired = if state.step == Step::Restoring { operation.before } else { (self.spec, self.power) };
            let reference = state.reference.clone().unwrap_or_default();
            let call = match next {
                Command::End(end) => return self.end(&state, end),
                Command::Wait(pause) => {
                    assert!(pause == Pause::Poll || state.attempt > 0);
                    return self.save(&state);
                }
                Command::List => {
                    let objects = self.provider.objects.iter();
                    state.handle(Event::Found(
                        objects.map(|object| (object.reference.clone(), object.is_deleting)).collect(),
                    ));
                    continue;
                }
                Command::Read => {
                    let recorded = std::mem::replace(&mut self.reference, state.reference.clone());
                    let observation = self.observe(desired);
                    self.reference = recorded;
                    state.handle(Event::Observed(observation));
                    continue;
                }
                Command::Create => Call::Create { token: operation.token, spec: desired.0 },
                Command::Update => Call::Update { reference, spec: desired.0 },
                Command::SetPower(power) => Call::SetPower { reference, power },
                Command::Reboot => Call::SetPower { reference, power: Power::On },
                Command::Delete(reference) => Call::Delete { reference },
                Command::AdoptSpec => unreachable!("the model has no imports"),
            };
            self.save(&state);
            let event = match std::mem::replace(&mut has_faulted, true) {
                true => self.provider.execute(call),
                false => match fault {
                    Fault::None => self.provider.execute(call),
                    Fault::CrashBeforeCall => return,
                    Fault::CrashAfterCall => {
                        let _ = self.provider.execute(call);
                        return;
                    }
                    Fault::Suspended => return self.provider.late_calls.push(call),
                    Fault::ResponseLost => {
                        let _ = self.provider.execute(call);
                        Err(DriverError::retryable("lost", "lost"))
                    }
                    Fault::Busy => Err(DriverError::retryable("busy", "busy")),
                    Fault::Denied => Err(DriverError::new(DriverErrorKind::Denied, "denied", "denied")),
                },
            };
            state.handle(event.unwrap_or_else(Event::Rejected));
        }
        panic!("the turn does not end: {state:?}");
    }

    pub fn save(&mut self, state: &OperationState) {
        let is_revert = |step| matches!(step, Step::Compensating | Step::Restoring);
        self.reference.clone_from(&state.reference);
        if let Some(operation) = &mut self.operation {
            // A revert gets more time.
            operation.is_overdue &= !is_revert(state.step) || is_revert(operation.step);
            operation.step = state.step;
            operation.attempt = state.attempt;
            operation.failure.clone_from(&state.failure);
        }
    }

    pub fn end(&mut self, state: &OperationState, end: OperationOutcome) {
        let operation = self.operation.take().expect("an operation is in progress");
        self.reference.clone_from(&state.reference);
        assert_eq!(end == OperationOutcome::Failed, state.failure.is_some(), "{state:?}");
        let reads_object = matches!(operation.kind, OperationType::Sync | OperationType::Remediate);
        let mut phase = operation.phase_before.after(state.kind, end, state.reference.is_some());
        match (end, &state.observation) {
            (OperationOutcome::Succeeded, Some(Observation::Missing)) if reads_object => phase = Phase::Failed,
            (OperationOutcome::Succeeded, Some(Observation::InSync)) => {}
            (OperationOutcome::Succeeded, _) if reads_object => phase = operation.phase_before,
            (OperationOutcome::Canceled, _) if operation.kind == OperationType::Update => {
                (self.spec, self.power) = operation.before;
            }
            (OperationOutcome::Canceled, _) => self.power = operation.before.1,
            _ => {}
        }
        if self.phase != phase && phase == Phase::Active && self.phase == Phase::Failed {
            self.phase = phase;
        }
        self.set_phase(phase);
        if end == OperationOutcome::Succeeded && operation.kind == OperationType::Delete {
            assert!(self.provider.objects.is_empty(), "{:?}", self.provider.objects);
        }
        // A completed revert leaves no object, except from calls that arrive late.
        if end == OperationOutcome::Canceled && state.step == Step::Compensating {
            assert!(self.provider.objects.is_empty(), "{:?}", self.provider.objects);
        }
    }

    /// Sweeps as the reconcile loop does.
    pub fn sweep(&mut self) {
        if self.operation.is_some() {
            return;
        }
        let recorded = self.reference.clone().filter(|_| self.phase != Phase::Deleted);
        self.provider.objects.retain(|object| Some(&object.reference) == recorded.as_ref());
        if recorded.is_some() && self.provider.objects.is_empty() && self.phase == Phase::Active {
            self.set_phase(Phase::Failed);
        }
    }

    /// Runs without faults until everything has ended.
    pub fn settle(&mut self) {
        self.apply(ModelEvent::LateCalls);
        for _ in 0..60 {
            self.apply(ModelEvent::RunStep(Fault::None));
        }
        assert!(self.operation.is_none(), "{:?}", self.operation);
        // A sweep marks a missing object, and deletes objects that belong to no resource.
        for _ in 0..3 {
            self.apply(ModelEvent::Sweep);
        }
    }
}
