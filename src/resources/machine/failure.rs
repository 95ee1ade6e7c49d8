//! Failed calls: which are retried and which end the operation.

use std::time::Duration;

use super::{
    super::{
        driver::{DriverError, Refusal},
        lifecycle::{End, OperationType},
        model::OperationError,
    },
    Course, Do, Pause, Step,
};

/// Maximum number of attempts that may fail with a conflict.
const CONFLICTS: u32 = 6;
/// Maximum number of attempts without capacity at the provider, and the pause between two of them.
const CAPACITY_TRIES: u32 = 10;
const CAPACITY_PAUSE: Duration = Duration::from_secs(30);
impl Course {
    /// Fails: ends the operation immediately, or first reverts a partial creation.
    pub(super) fn fail(&mut self, failure: OperationError) -> Do {
        if matches!(self.step, Step::Compensating | Step::Restoring) {
            // Report the first failure.
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

    pub(super) fn refused_for_good(&mut self, code: &'static str, detail: &str) -> Do {
        self.fail(OperationError { code: code.into(), detail: detail.to_owned(), provider_code: None })
    }

    pub(super) fn refused(&mut self, error: DriverError) -> Do {
        let is_deletion = matches!(self.step, Step::Deleting | Step::Compensating);
        match error.kind {
            Refusal::Retryable { after } => return self.failed(after),
            // The conflict may end: dependent objects are deleted first.
            Refusal::Conflict if is_deletion || self.attempt + 1 < CONFLICTS => return self.failed(None),
            // Capacity may become available. With the pauses, the attempts take some minutes.
            Refusal::NoCapacity if self.attempt + 1 < CAPACITY_TRIES => return self.failed(Some(CAPACITY_PAUSE)),
            Refusal::NotFound if is_deletion => return self.failed(None),
            Refusal::NotFound if self.step == Step::Converging && self.makes() => return self.make_again(),
            _ => {}
        }
        let detail = format!("The provider rejected the call: {}", error.message);
        self.fail(OperationError { code: error.kind.as_str().into(), detail, provider_code: Some(error.code) })
    }

    /// Waits before a retry.
    pub(super) fn failed(&mut self, after: Option<Duration>) -> Do {
        self.attempt += 1;
        Do::Wait(Pause::Failed(after))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Heard, *};

    /// Repeats the same error at a step. Returns the number of waits and the error code of the failure; `None` if the
    /// operation still waits after 100 errors.
    fn outcome(kind: OperationType, step: Step, refusal: Refusal) -> Option<(u32, String)> {
        let mut course = Course::new(kind, step);
        course.reference = Some("an-object".into());
        for waits in 0..100 {
            course.heard(Heard::Refused(DriverError::new(refusal, "ItsOwnWord", "its own text")));
            match course.decide() {
                Do::Wait(_) if course.failure.is_none() => {}
                _ => return course.failure.map(|failure| (waits, failure.code.into_owned())),
            }
        }
        None
    }

    #[test]
    fn each_driver_error_is_retried_while_retrying_can_help_and_keeps_its_code() {
        let failed = |waits, code: &str| Some((waits, code.to_owned()));
        for (refusal, of_creation, of_deletion) in [
            (Refusal::Retryable { after: None }, None, None),
            (Refusal::Invalid, failed(0, "invalid"), failed(0, "invalid")),
            (Refusal::Denied, failed(0, "denied"), failed(0, "denied")),
            (Refusal::NotFound, failed(0, "not_found"), None),
            (Refusal::Conflict, failed(CONFLICTS - 1, "conflict"), None),
            (Refusal::Exhausted, failed(0, "exhausted"), failed(0, "exhausted")),
            (Refusal::NoCapacity, failed(CAPACITY_TRIES - 1, "exhausted"), failed(CAPACITY_TRIES - 1, "exhausted")),
            (Refusal::Protected, failed(0, "protected"), failed(0, "protected")),
        ] {
            assert_eq!(outcome(OperationType::Create, Step::Creating, refusal), of_creation, "{refusal:?}");
            assert_eq!(outcome(OperationType::Delete, Step::Deleting, refusal), of_deletion, "{refusal:?}");
        }
    }
}
