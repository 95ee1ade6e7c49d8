//! What EC2's errors mean for the engine.

use crate::resources::driver::{DriverError, Refusal};

/// More of a message is of no use: a refusal for want of permission carries kilobytes that are encoded.
const LONGEST_MESSAGE: usize = 500;

/// The error of an answer with this status that names a code and a message.
pub fn error(status: u16, code: &str, message: &str) -> DriverError {
    let mut message: String = message.chars().filter(|character| !character.is_control()).collect();
    if let Some((at, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(at);
        message.push('…');
    }
    DriverError::new(meaning(status, code), code, message)
}

/// Codes come before the status: that there are no machines left is a 500.
fn meaning(status: u16, code: &str) -> Refusal {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "EC2ThrottledException"
        | "SlowDown"
        | "InternalError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "ConcurrentTagAccess"
        | "PriorRequestNotComplete" => Refusal::Retryable { after: None },
        "UnauthorizedOperation"
        | "AuthFailure"
        | "AccessDenied"
        | "AccessDeniedException"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "OptInRequired"
        | "Blocked"
        | "PendingVerification"
        | "OperationNotPermitted" => Refusal::Denied,
        "DependencyViolation"
        | "IncorrectState"
        | "IncorrectInstanceState"
        | "IncorrectModificationState"
        | "InvalidStateTransition"
        | "InvalidState"
        | "VolumeInUse"
        | "ResourceInUse"
        | "InvalidSubnet.Conflict" => Refusal::Conflict,
        "VolumeModificationRateExceeded" => Refusal::Exhausted,
        _ if code.ends_with(".InUse") => Refusal::Conflict,
        _ if code.ends_with("LimitExceeded") || code.starts_with("Insufficient") => Refusal::Exhausted,
        _ if code.ends_with(".NotFound") || code.ends_with(".Malformed") => Refusal::NotFound,
        _ if status == 429 || status >= 500 => Refusal::Retryable { after: None },
        _ => Refusal::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_means_what_the_engine_should_do() {
        let retryable = Refusal::Retryable { after: None };
        for (status, code, meant) in [
            (503, "RequestLimitExceeded", retryable),
            (400, "Throttling", retryable),
            (503, "Unavailable", retryable),
            (500, "http_500", retryable),
            (429, "http_429", retryable),
            (403, "UnauthorizedOperation", Refusal::Denied),
            (401, "AuthFailure", Refusal::Denied),
            (400, "RequestExpired", Refusal::Denied),
            (400, "DependencyViolation", Refusal::Conflict),
            (400, "IncorrectInstanceState", Refusal::Conflict),
            (400, "VolumeInUse", Refusal::Conflict),
            (500, "InsufficientInstanceCapacity", Refusal::Exhausted),
            (400, "InstanceLimitExceeded", Refusal::Exhausted),
            (400, "VcpuLimitExceeded", Refusal::Exhausted),
            (400, "VpcLimitExceeded", Refusal::Exhausted),
            (400, "InsufficientFreeAddressesInSubnet", Refusal::Exhausted),
            (400, "InvalidInstanceID.NotFound", Refusal::NotFound),
            (400, "InvalidInstanceID.Malformed", Refusal::NotFound),
            (400, "InvalidParameterValue", Refusal::Invalid),
            (400, "IdempotentParameterMismatch", Refusal::Invalid),
        ] {
            assert_eq!(error(status, code, "").kind, meant, "{code}");
        }
    }

    #[test]
    fn messages_are_of_one_line_and_end() {
        let told = error(403, "UnauthorizedOperation", &format!("no\n{}", "ä".repeat(5000)));
        assert_eq!(told.message.chars().count(), LONGEST_MESSAGE + 1);
        assert!(told.message.starts_with("noä"));
    }
}
