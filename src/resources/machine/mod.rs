//! What comes next in an operation: a state machine without input or output, which the engine drives, and a test drives
//! against a model of a provider that loses answers, with workers that die between any two steps.
//!
//! A [`Course`] is asked what to do and told what came of it, until it says to wait or that the operation has ended. Its
//! [`Step`] is stored before each call that changes something: a worker that begins at a step which changes something does
//! not know whether another one has already made that call, and looks first.

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod simulator;
mod words;

use std::time::Duration;

pub use words::{Do, Heard, Pause, Referred, Sight, Step};

use super::{
    driver::{DriverError, Refusal},
    lifecycle::{End, OperationType},
    model::OperationError,
};

/// How often what is in the way may be there before it is an error.
const CONFLICTS: u32 = 6;
/// How often to ask a provider for what it has none of at the moment, and how long to wait in between.
const CAPACITY_TRIES: u32 = 10;
const CAPACITY_PAUSE: Duration = Duration::from_secs(30);
/// How often what does not stay on, or off, is turned so.
const TURNS: u32 = 10;

/// One operation under way.
#[derive(Clone, Debug)]
pub struct Course {
    /// What it is.
    pub kind: OperationType,
    /// What it is at.
    pub step: Step,
    /// How often the present step has failed.
    pub attempt: u32,
    /// The object that is the resource's.
    pub reference: Option<String>,
    /// Why it cannot come to a good end.
    pub failure: Option<OperationError>,
    /// Whether somebody has asked that it be given up.
    pub cancel: bool,
    /// Whether it has taken too long.
    pub overdue: bool,
    /// Whether what differs is mended.
    pub enforce: bool,
    /// Whether what the spec refers to is there.
    pub referred: Referred,
    /// How the object looked last.
    pub sight: Option<Sight>,
    /// Whether nobody can have made the present step's call yet.
    is_fresh: bool,
    /// What is still to be deleted of what was found.
    doomed: Option<Vec<String>>,
    /// What to do next, where that is settled.
    next: Option<Do>,
}

impl Course {
    /// Goes on with an operation that is at `step`.
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

    /// Whether asking for an end is still of use: what has begun to be deleted will be, and what is being undone is.
    pub const fn can_be_canceled(kind: OperationType, step: Step) -> bool {
        match step {
            Step::Queued => true,
            Step::Compensating | Step::Restoring | Step::Done => false,
            // Whether the tags of what is imported are ours by now, nobody knows.
            Step::Applying => !matches!(kind, OperationType::Import),
            _ => !matches!(kind, OperationType::Delete),
        }
    }

    /// What to do next.
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
                detail: format!("It was not done in time, and was at '{}' last; try again, and if it lasts ask the operator how the provider does", self.step.as_str()),
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
                    // What was deleted behind our back is made again.
                    OperationType::Remediate if self.reference.is_none() => self.enter(Step::Creating),
                    // Names and labels cannot be seen to differ, so it is told at least once what it shall be.
                    OperationType::Update if self.reference.is_some() => self.begin(Step::Applying),
                    _ => self.begin(Step::Converging),
                }
                self.decide()
            }
            Step::Creating if self.is_fresh => Do::Create,
            Step::Creating => self.doom_or(Do::LookUp),
            Step::Converging | Step::Restoring => match self.reference {
                Some(_) => Do::Read,
                None => self.refused_for_good("not_found", "It was never made, so it cannot be changed; delete it"),
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

    /// Takes in what came of what was to be done.
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
                // It may be half made, by a worker that died on it.
                self.doomed = Some(found.into_iter().map(|found| found.0).filter(|one| *one != kept).collect());
                self.reference = Some(kept);
                None
            }
            _ if found.is_empty() => {
                self.doomed = Some(Vec::new());
                // What was made elsewhere, or before the tags were there, is found by its reference alone.
                Some(if self.reference.is_some() { Do::Read } else { self.gone() })
            }
            _ => {
                self.doomed = Some(found.into_iter().filter(|found| !found.1).map(|found| found.0).collect());
                None
            }
        }
    }

    /// The next of what is to be deleted; when all of it is, goes on; if nothing is known yet, `otherwise`.
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
            // It was told what it shall be.
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
                // What is being made can be deleted; what is being deleted will not mind.
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
                self.refused_for_good("failed", "It does not stay on or off as it is turned; look at what it runs")
            }
            (_, Sight::Turn(power)) => {
                self.attempt += 1;
                Do::Turn(power)
            }
            (_, Sight::Missing) if self.makes() => self.make_again(),
            (_, Sight::Missing) => self.refused_for_good("not_found", "It is gone: something else has deleted it. Delete the resource, or set 'reconcile' to 'enforce' to have it made again"),
            (_, Sight::Foreign) => {
                self.refused_for_good("conflict", "The object at the provider is tagged as somebody else's; look there for who has taken it over")
            }
            (_, Sight::Broken(reason)) => {
                let reason = reason.unwrap_or_else(|| "The provider says that it failed, and not why; look there".into());
                self.refused_for_good("failed", &reason)
            }
        }
    }

    /// How the object looks that was to be looked at, or to become a resource.
    fn looked_at(&mut self, sight: Sight) -> Do {
        match (self.kind, sight) {
            (_, Sight::Busy) => Do::Wait(Pause::LookAgain),
            (OperationType::Import, Sight::Missing) => self.refused_for_good(
                "not_found",
                "The provider has no object of this kind and reference; look at 'kind' and 'provider_ref'",
            ),
            (OperationType::Import, Sight::Foreign) => self.refused_for_good(
                "conflict",
                "The object is tagged as another resource's, or another deployment's; it cannot be two's",
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

    /// What was looked at is not there.
    fn missing(&mut self) -> Do {
        self.sight = Some(Sight::Missing);
        if self.enforce && self.kind != OperationType::Import {
            self.reference = None;
            self.enter(Step::Creating);
            return self.decide();
        }
        Do::End(End::Succeeded)
    }

    /// Nothing of what was to be deleted is left.
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

    /// Whether it is about an object's being there at all.
    const fn makes(&self) -> bool {
        matches!(self.kind, OperationType::Create | OperationType::Remediate)
    }

    /// What was made is not there. A provider may need a while to know what it has made, so it is looked for first.
    fn make_again(&mut self) -> Do {
        self.enter(Step::Creating);
        self.failed(None)
    }

    /// Ends because somebody asked for that; at once, or after undoing what was begun.
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

    /// Ends with a failure; at once, or after undoing what was half made.
    fn fail(&mut self, failure: OperationError) -> Do {
        if matches!(self.step, Step::Compensating | Step::Restoring) {
            // The first reason is the one to tell.
            self.failure.get_or_insert(failure);
            return Do::End(End::Failed);
        }
        self.failure = Some(failure);
        let has_made = match self.kind {
            OperationType::Create => matches!(self.step, Step::Creating | Step::Converging),
            OperationType::Remediate | OperationType::Sync => self.step == Step::Creating,
            _ => false,
        };
        if !has_made {
            return Do::End(End::Failed);
        }
        self.enter(Step::Compensating);
        self.decide()
    }

    fn refused_for_good(&mut self, code: &'static str, detail: &str) -> Do {
        self.fail(OperationError { code: code.into(), detail: detail.to_owned(), provider_code: None })
    }

    fn refused(&mut self, error: DriverError) -> Do {
        let is_deletion = matches!(self.step, Step::Deleting | Step::Compensating);
        match error.kind {
            Refusal::Retryable { after } => return self.failed(after),
            // It may go; what it is depended on by is deleted before it.
            Refusal::Conflict if is_deletion || self.attempt + 1 < CONFLICTS => return self.failed(None),
            // The provider may have more in a while. With the pauses between them, so many tries take some minutes.
            Refusal::NoCapacity if self.attempt + 1 < CAPACITY_TRIES => return self.failed(Some(CAPACITY_PAUSE)),
            Refusal::NotFound if is_deletion => return self.failed(None),
            Refusal::NotFound if self.step == Step::Converging && self.makes() => return self.make_again(),
            _ => {}
        }
        let detail = format!("The provider refused: {}", error.message);
        self.fail(OperationError { code: error.kind.as_str().into(), detail, provider_code: Some(error.code) })
    }

    /// Waits, and tries again.
    fn failed(&mut self, after: Option<Duration>) -> Do {
        self.attempt += 1;
        Do::Wait(Pause::Failed(after))
    }

    /// Goes on to a step whose call nobody can have made yet.
    fn begin(&mut self, step: Step) {
        self.enter(step);
        self.is_fresh = true;
    }

    /// Goes on to a step of which it is not known what was done.
    fn enter(&mut self, step: Step) {
        self.step = step;
        self.attempt = 0;
        self.is_fresh = false;
        self.doomed = None;
    }
}
