//! Failed calls: which are retried and which end the operation.

use std::time::Duration;

use super::{Command, OperationState, Pause, Step};
use crate::resources::{
    api::model::OperationError,
    drivers::driver::{DriverError, DriverErrorKind},
    engine::lifecycle::{OperationOutcome, OperationType},
};

/// Maximum number of attempts that may fail with a conflict.
const MAX_CONFLICT_ATTEMPTS: u32 = 6;
/// Maximum number of attempts without capacity at the provider, and the pause between two of them.
const MAX_CAPACITY_ATTEMPTS: u32 = 10;
const CAPACITY_PAUSE: Duration = Duration::from_secs(30);
impl OperationState {
    /// Fails: ends the operation immediately, or first reverts a partial creation.
    pub(super) fn fail(&mut self, failure: OperationError) -> Command {
        if matches!(self.step, Step::Compensating | Step::Restoring) {
            // Report the first failure.
            self.failure.get_or_insert(failure);
            return Command::End(OperationOutcome::Failed);
        }
        self.failure = Some(failure);
        let may_have_created = match self.kind {
            OperationType::Create => matches!(self.step, Step::Creating | Step::Converging),
            OperationType::Remediate | OperationType::Sync => self.step == Step::Creating,
            _ => false,
        };
        if !may_have_created {
            return Command::End(OperationOutcome::Failed);
        }
        self.enter(Step::Compensating);
        self.decide()
    }

    pub(super) fn fail_with(&mut self, code: &'static str, detail: &str) -> Command {
        self.fail(OperationError { code: code.into(), detail: detail.to_owned(), provider_code: None })
    }

    pub(super) fn on_rejected(&mut self, error: DriverError) -> Command {
        let is_deletion = matches!(self.step, Step::Deleting | Step::Compensating);
        match error.kind {
            DriverErrorKind::Retryable { after } => return self.retry_later(after),
            // The conflict may end: dependent objects are deleted first.
            DriverErrorKind::Conflict if is_deletion || self.attempt + 1 < MAX_CONFLICT_ATTEMPTS => {
                return self.retry_later(None);
            }
            // Capacity may become available. With the pauses, the attempts take some minutes.
            DriverErrorKind::NoCapacity if self.attempt + 1 < MAX_CAPACITY_ATTEMPTS => {
                return self.retry_later(Some(CAPACITY_PAUSE));
            }
            DriverErrorKind::NotFound if is_deletion => return self.retry_later(None),
            DriverErrorKind::NotFound if self.step == Step::Converging && self.ensures_object() => {
                return self.recreate();
            }
            _ => {}
        }
        let detail = format!("The provider rejected the call: {}", error.message);
        self.fail(OperationError { code: error.kind.as_str().into(), detail, provider_code: Some(error.code) })
    }

    /// Waits before a retry.
    pub(super) fn retry_later(&mut self, after: Option<Duration>) -> Command {
        self.attempt += 1;
        Command::Wait(Pause::Backoff(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::engine::machine::Event;

    /// Repeats the same error at a step. Returns the number of waits and the error code of the failure; `None` if the
    /// operation still waits after 100 errors.
    fn outcome(kind: OperationType, step: Step, refusal: DriverErrorKind) -> Option<(u32, String)> {
        let mut state = OperationState::new(kind, step);
        state.reference = Some("an-object".into());
        for waits in 0..100 {
            state.handle(Event::Rejected(DriverError::new(refusal, "ItsOwnWord", "its own text")));
            match state.decide() {
                Command::Wait(_) if state.failure.is_none() => {}
                _ => return state.failure.map(|failure| (waits, failure.code.into_owned())),
            }
        }
        None
    }

    #[test]
    fn each_driver_error_is_retried_while_retrying_can_help_and_keeps_its_code() {
        let failed = |waits, code: &str| Some((waits, code.to_owned()));
        for (refusal, of_creation, of_deletion) in [
            (DriverErrorKind::Retryable { after: None }, None, None),
            (DriverErrorKind::Invalid, failed(0, "invalid"), failed(0, "invalid")),
            (DriverErrorKind::Denied, failed(0, "denied"), failed(0, "denied")),
            (DriverErrorKind::NotFound, failed(0, "not_found"), None),
            (DriverErrorKind::Conflict, failed(MAX_CONFLICT_ATTEMPTS - 1, "conflict"), None),
            (DriverErrorKind::Exhausted, failed(0, "exhausted"), failed(0, "exhausted")),
            (
                DriverErrorKind::NoCapacity,
                failed(MAX_CAPACITY_ATTEMPTS - 1, "exhausted"),
                failed(MAX_CAPACITY_ATTEMPTS - 1, "exhausted"),
            ),
            (DriverErrorKind::Protected, failed(0, "protected"), failed(0, "protected")),
        ] {
            assert_eq!(outcome(OperationType::Create, Step::Creating, refusal), of_creation, "{refusal:?}");
            assert_eq!(outcome(OperationType::Delete, Step::Deleting, refusal), of_deletion, "{refusal:?}");
        }
    }
}
