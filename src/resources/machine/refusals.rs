//! What an operation does when a provider refuses a call: try again, undo, or end with a failure.

use std::{borrow::Cow, time::Duration};

use super::{Course, Do, Step};
use crate::resources::{
    driver::{DriverError, Refusal},
    lifecycle::{End, OperationType},
    model::Failure,
};

/// How many attempts a conflict at the provider gets.
const CONFLICTS: u32 = 6;
/// How many attempts missing capacity at the provider gets, and the pause between them.
const CAPACITY_TRIES: u32 = 10;
const CAPACITY_PAUSE: Duration = Duration::from_secs(30);

impl Course {
    /// Ends with a failure; at once, or after undoing what was half made.
    pub(super) fn fail(&mut self, failure: Failure) -> Do {
        if matches!(self.step, Step::Compensating | Step::Restoring) {
            // The first reason is the one to tell.
            self.failure.get_or_insert(failure);
            return Do::End(End::Failed);
        }
        self.failure = Some(failure);
        let has_made = match self.kind {
            OperationType::Create => matches!(self.step, Step::Creating | Step::Converging),
            OperationType::Mend | OperationType::Sync => self.step == Step::Creating,
            _ => false,
        };
        if !has_made {
            return Do::End(End::Failed);
        }
        self.enter(Step::Compensating);
        self.decide()
    }

    pub(super) fn refused_for_good(&mut self, code: &'static str, detail: &str) -> Do {
        self.fail(Failure { code: code.into(), detail: detail.to_owned(), provider_code: None })
    }

    pub(super) fn refused(&mut self, error: DriverError) -> Do {
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
        let code: Cow<'static, str> = match error.kind {
            Refusal::Retryable { .. } => "provider_unavailable",
            Refusal::Invalid => "invalid",
            Refusal::Denied => "denied",
            Refusal::NotFound => "not_found",
            Refusal::Conflict => "conflict",
            Refusal::Exhausted | Refusal::NoCapacity => "exhausted",
            Refusal::Protected => "protected",
        }
        .into();
        let detail = format!("The provider refused: {}", error.message);
        self.fail(Failure { code, detail, provider_code: Some(error.code) })
    }
}
