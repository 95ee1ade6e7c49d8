//! State machine of an operation, without input or output. The engine drives it in production. A test drives it against
//! a model of a provider that loses responses, with workers that die between any two steps.
//!
//! The driver of the machine asks an [`OperationState`] what to do and reports the result, until the machine says to
//! wait or the operation has ended. The [`Step`] is stored before each call that changes something. A worker that
//! resumes at such a step cannot know whether another worker has already made the call, so it checks first.

mod failure;
mod protocol;
#[cfg(test)]
mod simulator;

pub use protocol::{Command, Event, Observation, Pause, ReferenceState, Step};

use super::lifecycle::{OperationOutcome, OperationType};
use crate::resources::api::model::OperationError;

/// Maximum number of attempts to turn an object on or off if it does not stay so.
const MAX_POWER_ATTEMPTS: u32 = 10;

/// State of an operation in progress.
#[derive(Clone, Debug)]
pub struct OperationState {
    /// Type of the operation.
    pub kind: OperationType,
    /// Current step.
    pub step: Step,
    /// Number of failed attempts of the current step.
    pub attempt: u32,
    /// Provider's identifier of the resource's object.
    pub reference: Option<String>,
    /// Error that the operation will end with.
    pub failure: Option<OperationError>,
    /// Whether a client has requested cancellation.
    pub is_cancel_requested: bool,
    /// Whether the deadline has passed.
    pub is_overdue: bool,
    /// Whether drift is remediated.
    pub enforce: bool,
    /// State of the resources that the spec refers to.
    pub references: ReferenceState,
    /// Last observation of the object.
    pub observation: Option<Observation>,
    /// Whether the current step's call cannot have been made yet.
    is_call_unsent: bool,
    /// Objects that were found and are still to be deleted.
    to_delete: Option<Vec<String>>,
    /// Next command, if it is already decided.
    next: Option<Command>,
}

impl OperationState {
    /// Creates the state of an operation that resumes at `step`.
    pub fn new(kind: OperationType, step: Step) -> Self {
        Self {
            kind,
            step,
            attempt: 0,
            reference: None,
            failure: None,
            is_cancel_requested: false,
            is_overdue: false,
            enforce: false,
            references: ReferenceState::Ready,
            observation: None,
            is_call_unsent: false,
            to_delete: None,
            next: None,
        }
    }

    const fn first_step(kind: OperationType) -> Step {
        use OperationType as T;
        match kind {
            T::Delete => Step::Deleting,
            T::Reboot => Step::Rebooting,
            T::Import | T::Sync => Step::Reading,
            _ => Step::References,
        }
    }

    /// Whether the operation can still be canceled. A deletion that has started and a revert cannot.
    pub const fn can_be_canceled(kind: OperationType, step: Step) -> bool {
        match step {
            Step::Queued => true,
            Step::Compensating | Step::Restoring | Step::Done => false,
            // The imported object may already have this resource's tags.
            Step::Applying => !matches!(kind, OperationType::Import),
            _ => !matches!(kind, OperationType::Delete),
        }
    }

    /// Returns the next command.
    pub fn decide(&mut self) -> Command {
        if let Some(next) = self.next.take() {
            return next;
        }
        if self.is_cancel_requested && Self::can_be_canceled(self.kind, self.step) {
            self.is_cancel_requested = false;
            if let Some(end) = self.begin_cancel() {
                return end;
            }
        } else if self.is_overdue {
            self.is_overdue = false;
            return self.fail(OperationError {
                code: "timeout".into(),
                detail: format!(
                    "Not completed in time, last step '{}'; retry, and if it fails again ask the operator to check the \
                     provider",
                    self.step.as_str()
                ),
                provider_code: None,
            });
        }
        if self.step == Step::Queued {
            self.begin(Self::first_step(self.kind));
        }
        let needs_references = matches!(
            self.step,
            Step::References | Step::Creating | Step::Converging | Step::Restoring | Step::Applying
        );
        match &self.references {
            ReferenceState::Pending if needs_references => return Command::Wait(Pause::Poll),
            ReferenceState::Failed(why) if needs_references => {
                let failure =
                    OperationError { code: "reference_failed".into(), detail: why.clone(), provider_code: None };
                return self.fail(failure);
            }
            _ => {}
        }
        match self.step {
            Step::Queued | Step::References => {
                match self.kind {
                    OperationType::Create => self.begin(Step::Creating),
                    // Create an object again that was deleted outside this server.
                    OperationType::Remediate if self.reference.is_none() => self.enter(Step::Creating),
                    // Changed names and labels cannot be detected as drift, so send the new state at least once.
                    OperationType::Update if self.reference.is_some() => self.begin(Step::Applying),
                    _ => self.begin(Step::Converging),
                }
                self.decide()
            }
            Step::Creating if self.is_call_unsent => Command::Create,
            Step::Creating => self.delete_next_or(Command::List),
            Step::Converging | Step::Restoring => match self.reference {
                Some(_) => Command::Read,
                None => self.fail_with(
                    "not_found",
                    "The object was never created, so it cannot be changed; delete the resource",
                ),
            },
            Step::Reading => match self.reference {
                Some(_) => Command::Read,
                None => self.on_missing(),
            },
            Step::Rebooting => Command::Reboot,
            Step::Applying => Command::Update,
            Step::Deleting | Step::Compensating => self.delete_next_or(Command::List),
            Step::Done => Command::End(OperationOutcome::Succeeded),
        }
    }

    /// Processes the result of a command.
    pub fn handle(&mut self, event: Event) {
        self.next = match event {
            Event::Rejected(error) => Some(self.on_rejected(error)),
            Event::Created(reference) => {
                self.reference = Some(reference);
                self.begin(Step::Converging);
                Some(Command::Wait(Pause::Poll))
            }
            Event::Found(found) => self.on_found(found),
            Event::Observed(observation) => {
                self.observation = Some(observation.clone());
                Some(self.on_observed(observation))
            }
            Event::Done => self.on_done(),
        };
    }

    fn on_found(&mut self, mut found: Vec<(String, bool)>) -> Option<Command> {
        found.sort();
        match self.step {
            Step::Creating => {
                found.retain(|(_, is_going)| !is_going);
                let recorded = self.reference.clone().filter(|own| found.iter().any(|(reference, _)| reference == own));
                let Some(chosen) = recorded.or_else(|| found.first().map(|(reference, _)| reference.clone())) else {
                    self.is_call_unsent = true;
                    return Some(Command::Create);
                };
                // The object may be incomplete if its worker died, so converge it.
                self.to_delete = Some(found.into_iter().map(|found| found.0).filter(|one| *one != chosen).collect());
                self.reference = Some(chosen);
                None
            }
            _ if found.is_empty() => {
                self.to_delete = Some(Vec::new());
                // An object that was created elsewhere, or has no tags yet, is found only by its reference.
                Some(if self.reference.is_some() { Command::Read } else { self.finish_deletion() })
            }
            _ => {
                self.to_delete = Some(found.into_iter().filter(|found| !found.1).map(|found| found.0).collect());
                None
            }
        }
    }

    /// Returns the command to delete the next object in `to_delete`, or to continue if none is left; `otherwise` if the
    /// objects have not been listed yet.
    fn delete_next_or(&mut self, otherwise: Command) -> Command {
        let Some(to_delete) = &self.to_delete else { return otherwise };
        match (to_delete.first(), self.step) {
            (Some(reference), _) => Command::Delete(reference.clone()),
            (None, Step::Creating) => {
                self.begin(Step::Converging);
                Command::Update
            }
            (None, _) => Command::Wait(Pause::Poll),
        }
    }

    fn on_done(&mut self) -> Option<Command> {
        match self.step {
            Step::Creating | Step::Deleting | Step::Compensating => {
                if let Some(to_delete) = &mut self.to_delete
                    && !to_delete.is_empty()
                {
                    to_delete.remove(0);
                }
                None
            }
            Step::Rebooting | Step::Applying => {
                self.begin(Step::Converging);
                Some(Command::Wait(Pause::Poll))
            }
            // The provider has received the desired state.
            Step::Reading => {
                self.begin(Step::Applying);
                None
            }
            _ => Some(Command::Wait(Pause::Poll)),
        }
    }

    fn on_observed(&mut self, observation: Observation) -> Command {
        match (self.step, observation) {
            (Step::Deleting | Step::Compensating, Observation::Missing | Observation::Foreign) => {
                self.finish_deletion()
            }
            (Step::Deleting | Step::Compensating, Observation::Busy) => match self.reference.clone() {
                // An object can be deleted while it is being created, and deleting it twice does no harm.
                Some(reference) => Command::Delete(reference),
                None => Command::Wait(Pause::Poll),
            },
            (Step::Deleting | Step::Compensating, _) => {
                let reference = self.reference.clone().unwrap_or_default();
                self.to_delete = Some(vec![reference.clone()]);
                Command::Delete(reference)
            }
            (Step::Reading, observation) => self.on_read(observation),
            (_, Observation::Busy) => Command::Wait(Pause::Poll),
            (Step::Restoring, Observation::InSync) => self.finish_restore(),
            (_, Observation::InSync) => Command::End(OperationOutcome::Succeeded),
            (_, Observation::SpecDiffers) => Command::Update,
            (_, Observation::PowerDiffers(_)) if self.attempt >= MAX_POWER_ATTEMPTS => {
                self.fail_with("failed", "The instance does not stay on or off; check the software that it runs")
            }
            (_, Observation::PowerDiffers(power)) => {
                self.attempt += 1;
                Command::SetPower(power)
            }
            (_, Observation::Missing) if self.ensures_object() => self.recreate(),
            (_, Observation::Missing) => self.fail_with(
                "not_found",
                "The object was deleted outside this server; delete the resource, or set 'reconcile' to 'enforce' to \
                 create it again",
            ),
            (_, Observation::Foreign) => self.fail_with(
                "conflict",
                "The object at the provider has another owner's tags; check there who has taken it over",
            ),
            (_, Observation::Failed(reason)) => {
                let reason = reason.unwrap_or_else(|| {
                    "The provider reports a failure without a reason; check the object there".into()
                });
                self.fail_with("failed", &reason)
            }
        }
    }

    /// Handles an observation in a sync or import.
    fn on_read(&mut self, observation: Observation) -> Command {
        match (self.kind, observation) {
            (_, Observation::Busy) => Command::Wait(Pause::Poll),
            (OperationType::Import, Observation::Missing) => self.fail_with(
                "not_found",
                "The provider has no object of this kind and reference; check 'kind' and 'provider_ref'",
            ),
            (OperationType::Import, Observation::Foreign) => self.fail_with(
                "conflict",
                "The object belongs to another resource or deployment by its tags; import an object without tags",
            ),
            (OperationType::Import, _) => Command::AdoptSpec,
            (_, Observation::Missing | Observation::Foreign) => self.on_missing(),
            (_, Observation::SpecDiffers | Observation::PowerDiffers(_)) if self.enforce => {
                self.begin(Step::Converging);
                self.decide()
            }
            _ => Command::End(OperationOutcome::Succeeded),
        }
    }

    /// Handles a missing object in a sync.
    fn on_missing(&mut self) -> Command {
        self.observation = Some(Observation::Missing);
        if self.enforce && self.kind != OperationType::Import {
            self.reference = None;
            self.enter(Step::Creating);
            return self.decide();
        }
        Command::End(OperationOutcome::Succeeded)
    }

    /// Ends a deletion when no object is left.
    fn finish_deletion(&mut self) -> Command {
        self.reference = None;
        Command::End(match (self.step, &self.failure) {
            (Step::Compensating, Some(_)) => OperationOutcome::Failed,
            (Step::Compensating, None) => OperationOutcome::Canceled,
            _ => OperationOutcome::Succeeded,
        })
    }

    fn finish_restore(&mut self) -> Command {
        Command::End(if self.failure.is_some() { OperationOutcome::Failed } else { OperationOutcome::Canceled })
    }

    /// Whether the operation is to ensure that the object exists.
    const fn ensures_object(&self) -> bool {
        matches!(self.kind, OperationType::Create | OperationType::Remediate)
    }

    /// The created object does not exist. The provider may list a new object late, so search for it before creating
    /// another.
    fn recreate(&mut self) -> Command {
        self.enter(Step::Creating);
        self.retry_later(None)
    }

    /// Cancels: ends the operation immediately, or enters the step that reverts its changes.
    fn begin_cancel(&mut self) -> Option<Command> {
        use OperationType as T;
        match (self.kind, self.step) {
            (T::Create | T::Remediate, Step::Creating) | (T::Create, Step::Converging) => {
                self.enter(Step::Compensating);
            }
            (T::Update | T::Attach | T::Detach | T::Resize | T::Start | T::Stop, Step::Converging)
            | (T::Update, Step::Applying) => self.enter(Step::Restoring),
            _ => return Some(Command::End(OperationOutcome::Canceled)),
        }
        None
    }

    /// Enters a step whose call cannot have been made yet.
    fn begin(&mut self, step: Step) {
        self.enter(step);
        self.is_call_unsent = true;
    }

    /// Enters a step whose call may already have been made.
    fn enter(&mut self, step: Step) {
        self.step = step;
        self.attempt = 0;
        self.is_call_unsent = false;
        self.to_delete = None;
    }
}
