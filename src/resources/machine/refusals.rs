//! Outcome of each class of driver error.

use super::*;
use crate::resources::driver::Refusal;

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
