//! State machine of an operation, without input or output. The engine drives it in production. A test drives it against
//! a model of a provider that loses responses, with workers that die between any two steps.
//!
//! The driver of the machine asks a [`Course`] what to do and reports the result, until the machine says to wait or the
//! operation has ended. The [`Step`] is stored before each call that changes something. A worker that resumes at such a
//! step cannot know whether another worker has already made the call, so it checks first.

mod failure;
#[cfg(test)]
mod simulator;
mod words;

pub use words::{Do, Heard, Pause, Referred, Sight, Step};

use super::{
    lifecycle::{End, OperationType},
    model::OperationError,
};

/// Maximum number of attempts to turn an object on or off if it does not stay so.
const TURNS: u32 = 10;

/// State of an operation in progress.
#[derive(Clone, Debug)]
pub struct Course {
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
    pub cancel: bool,
    /// Whether the deadline has passed.
    pub overdue: bool,
    /// Whether drift is remediated.
    pub enforce: bool,
    /// State of the resources that the spec refers to.
    pub referred: Referred,
    /// Last observation of the object.
    pub sight: Option<Sight>,
    /// Whether the current step's call cannot have been made yet.
    is_fresh: bool,
    /// Objects that were found and are still to be deleted.
    doomed: Option<Vec<String>>,
    /// Next command, if it is already decided.
    next: Option<Do>,
}

impl Course {
    /// Creates the state of an operation that resumes at `step`.
    pub fn new(kind: OperationType, step: Step) -> Self {
        Self {
            kind,
            step,
            attempt: 0,
            reference: None,
            failure: None,
            cancel: false,
            overdue: false,
            enforce: false,
            referred: Referred::There,
            sight: None,
            is_fresh: false,
            doomed: None,
            next: None,
        }
    }

    const fn first(kind: OperationType) -> Step {
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
    pub fn decide(&mut self) -> Do {
        if let Some(next) = self.next.take() {
            return next;
        }
        if self.cancel && Self::can_be_canceled(self.kind, self.step) {
            self.cancel = false;
            if let Some(end) = self.give_up() {
                return end;
            }
        } else if self.overdue {
            self.overdue = false;
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
            self.begin(Self::first(self.kind));
        }
        let needs_references = matches!(
            self.step,
            Step::References | Step::Creating | Step::Converging | Step::Restoring | Step::Applying
        );
        match &self.referred {
            Referred::NotYet if needs_references => return Do::Wait(Pause::LookAgain),
            Referred::Never(why) if needs_references => {
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
            Step::Creating if self.is_fresh => Do::Create,
            Step::Creating => self.doom_or(Do::LookUp),
            Step::Converging | Step::Restoring => match self.reference {
                Some(_) => Do::Read,
                None => self.refused_for_good(
                    "not_found",
                    "The object was never created, so it cannot be changed; delete the resource",
                ),
            },
            Step::Reading => match self.reference {
                Some(_) => Do::Read,
                None => self.missing(),
            },
            Step::Rebooting => Do::Reboot,
            Step::Applying => Do::Update,
            Step::Deleting | Step::Compensating => self.doom_or(Do::LookUp),
            Step::Done => Do::End(End::Succeeded),
        }
    }

    /// Processes the result of a command.
    pub fn heard(&mut self, heard: Heard) {
        self.next = match heard {
            Heard::Refused(error) => Some(self.refused(error)),
            Heard::Created(reference) => {
                self.reference = Some(reference);
                self.begin(Step::Converging);
                Some(Do::Wait(Pause::LookAgain))
            }
            Heard::Found(found) => self.found(found),
            Heard::Seen(sight) => {
                self.sight = Some(sight.clone());
                Some(self.seen(sight))
            }
            Heard::Done => self.done(),
        };
    }

    fn found(&mut self, mut found: Vec<(String, bool)>) -> Option<Do> {
        found.sort();
        match self.step {
            Step::Creating => {
                found.retain(|(_, is_going)| !is_going);
                let recorded = self.reference.clone().filter(|own| found.iter().any(|(reference, _)| reference == own));
                let Some(kept) = recorded.or_else(|| found.first().map(|(reference, _)| reference.clone())) else {
                    self.is_fresh = true;
                    return Some(Do::Create);
                };
                // The object may be incomplete if its worker died, so converge it.
                self.doomed = Some(found.into_iter().map(|found| found.0).filter(|one| *one != kept).collect());
                self.reference = Some(kept);
                None
            }
            _ if found.is_empty() => {
                self.doomed = Some(Vec::new());
                // An object that was created elsewhere, or has no tags yet, is found only by its reference.
                Some(if self.reference.is_some() { Do::Read } else { self.gone() })
            }
            _ => {
                self.doomed = Some(found.into_iter().filter(|found| !found.1).map(|found| found.0).collect());
                None
            }
        }
    }

    /// Returns the command to delete the next object in `doomed`, or to continue if none is left; `otherwise` if the
    /// objects have not been listed yet.
    fn doom_or(&mut self, otherwise: Do) -> Do {
        let Some(doomed) = &self.doomed else { return otherwise };
        match (doomed.first(), self.step) {
            (Some(reference), _) => Do::Delete(reference.clone()),
            (None, Step::Creating) => {
                self.begin(Step::Converging);
                Do::Update
            }
            (None, _) => Do::Wait(Pause::LookAgain),
        }
    }

    fn done(&mut self) -> Option<Do> {
        match self.step {
            Step::Creating | Step::Deleting | Step::Compensating => {
                if let Some(doomed) = &mut self.doomed
                    && !doomed.is_empty()
                {
                    doomed.remove(0);
                }
                None
            }
            Step::Rebooting | Step::Applying => {
                self.begin(Step::Converging);
                Some(Do::Wait(Pause::LookAgain))
            }
            // The provider has received the desired state.
            Step::Reading => {
                self.begin(Step::Applying);
                None
            }
            _ => Some(Do::Wait(Pause::LookAgain)),
        }
    }

    fn seen(&mut self, sight: Sight) -> Do {
        match (self.step, sight) {
            (Step::Deleting | Step::Compensating, Sight::Missing | Sight::Foreign) => self.gone(),
            (Step::Deleting | Step::Compensating, Sight::Busy) => match self.reference.clone() {
                // An object can be deleted while it is being created, and deleting it twice does no harm.
                Some(reference) => Do::Delete(reference),
                None => Do::Wait(Pause::LookAgain),
            },
            (Step::Deleting | Step::Compensating, _) => {
                let reference = self.reference.clone().unwrap_or_default();
                self.doomed = Some(vec![reference.clone()]);
                Do::Delete(reference)
            }
            (Step::Reading, sight) => self.looked_at(sight),
            (_, Sight::Busy) => Do::Wait(Pause::LookAgain),
            (Step::Restoring, Sight::AsAsked) => self.end_restored(),
            (_, Sight::AsAsked) => Do::End(End::Succeeded),
            (_, Sight::Differs) => Do::Update,
            (_, Sight::Turn(_)) if self.attempt >= TURNS => {
                self.refused_for_good("failed", "The instance does not stay on or off; check the software that it runs")
            }
            (_, Sight::Turn(power)) => {
                self.attempt += 1;
                Do::Turn(power)
            }
            (_, Sight::Missing) if self.makes() => self.make_again(),
            (_, Sight::Missing) => self.refused_for_good(
                "not_found",
                "The object was deleted outside this server; delete the resource, or set 'reconcile' to 'enforce' to \
                 create it again",
            ),
            (_, Sight::Foreign) => self.refused_for_good(
                "conflict",
                "The object at the provider has another owner's tags; check there who has taken it over",
            ),
            (_, Sight::Broken(reason)) => {
                let reason = reason.unwrap_or_else(|| {
                    "The provider reports a failure without a reason; check the object there".into()
                });
                self.refused_for_good("failed", &reason)
            }
        }
    }

    /// Handles an observation in a sync or import.
    fn looked_at(&mut self, sight: Sight) -> Do {
        match (self.kind, sight) {
            (_, Sight::Busy) => Do::Wait(Pause::LookAgain),
            (OperationType::Import, Sight::Missing) => self.refused_for_good(
                "not_found",
                "The provider has no object of this kind and reference; check 'kind' and 'provider_ref'",
            ),
            (OperationType::Import, Sight::Foreign) => self.refused_for_good(
                "conflict",
                "The object belongs to another resource or deployment by its tags; import an object without tags",
            ),
            (OperationType::Import, _) => Do::Learn,
            (_, Sight::Missing | Sight::Foreign) => self.missing(),
            (_, Sight::Differs | Sight::Turn(_)) if self.enforce => {
                self.begin(Step::Converging);
                self.decide()
            }
            _ => Do::End(End::Succeeded),
        }
    }

    /// Handles a missing object in a sync.
    fn missing(&mut self) -> Do {
        self.sight = Some(Sight::Missing);
        if self.enforce && self.kind != OperationType::Import {
            self.reference = None;
            self.enter(Step::Creating);
            return self.decide();
        }
        Do::End(End::Succeeded)
    }

    /// Ends a deletion when no object is left.
    fn gone(&mut self) -> Do {
        self.reference = None;
        Do::End(match (self.step, &self.failure) {
            (Step::Compensating, Some(_)) => End::Failed,
            (Step::Compensating, None) => End::Canceled,
            _ => End::Succeeded,
        })
    }

    fn end_restored(&mut self) -> Do {
        Do::End(if self.failure.is_some() { End::Failed } else { End::Canceled })
    }

    /// Whether the operation is to ensure that the object exists.
    const fn makes(&self) -> bool {
        matches!(self.kind, OperationType::Create | OperationType::Remediate)
    }

    /// The created object does not exist. The provider may list a new object late, so search for it before creating
    /// another.
    fn make_again(&mut self) -> Do {
        self.enter(Step::Creating);
        self.failed(None)
    }

    /// Cancels: ends the operation immediately, or enters the step that reverts its changes.
    fn give_up(&mut self) -> Option<Do> {
        use OperationType as T;
        match (self.kind, self.step) {
            (T::Create | T::Remediate, Step::Creating) | (T::Create, Step::Converging) => {
                self.enter(Step::Compensating);
            }
            (T::Update | T::Attach | T::Detach | T::Resize | T::Start | T::Stop, Step::Converging)
            | (T::Update, Step::Applying) => self.enter(Step::Restoring),
            _ => return Some(Do::End(End::Canceled)),
        }
        None
    }

    /// Enters a step whose call cannot have been made yet.
    fn begin(&mut self, step: Step) {
        self.enter(step);
        self.is_fresh = true;
    }

    /// Enters a step whose call may already have been made.
    fn enter(&mut self, step: Step) {
        self.step = step;
        self.attempt = 0;
        self.is_fresh = false;
        self.doomed = None;
    }
}
