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
