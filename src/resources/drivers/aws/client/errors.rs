//! Classification of EC2's error codes (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).

use std::time::Duration;

use crate::resources::drivers::driver::{DriverError, DriverErrorKind};

/// Maximum length of a message that is passed on. A permission error contains kilobytes of encoded data.
const MAX_MESSAGE_LENGTH: usize = 500;
/// Maximum pause that AWS may ask for, because an operation has a deadline.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Class of an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Too many calls in a short time.
    Throttled,
    /// EC2 cannot respond now, or has not completed an earlier call.
    Unavailable,
    /// The credentials are unknown, wrong or expired.
    Unauthenticated,
    /// The request's time differs from AWS's.
    ClockSkew,
    /// The credentials are valid, but do not permit the call.
    Unauthorized,
    /// The account may not use this service or region, possibly only temporarily.
    AccountBlocked,
    /// The object is protected against the call, such as termination.
    Protected,
    /// A state, dependency or use conflicts with the call.
    Conflict,
    /// AWS currently has no capacity.
    NoCapacity,
    /// The account's quota is used up.
    Quota,
    /// The object does not exist.
    NotFound,
    /// The request can never succeed in this form.
    Invalid,
}

/// Codes of each class. Other codes are matched by [`PATTERNS`], then by the status, and are otherwise `Invalid`.
const TABLE: &[(Class, &[&str])] = &[
    (
        Class::Throttled,
        &[
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ],
    ),
    (
        Class::Unavailable,
        &[
            "ConcurrentTagAccess",
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "PriorRequestNotComplete",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "Unavailable",
        ],
    ),
    (
        Class::Unauthenticated,
        &[
            "AuthFailure",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
        ],
    ),
    (Class::ClockSkew, &["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"]),
    (Class::Unauthorized, &["AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"]),
    (Class::AccountBlocked, &["Blocked", "OptInRequired", "PendingVerification", "SubscriptionRequiredException"]),
    // Termination and stop protection (disableApiTermination, disableApiStop), and objects managed by another AWS
    // service.
    (Class::Protected, &["OperationNotPermitted"]),
    (
        Class::Conflict,
        &[
            "DependencyViolation",
            "IncorrectInstanceState",
            "IncorrectModificationState",
            "IncorrectState",
            "IncorrectStateException",
            "InvalidState",
            "InvalidStateTransition",
            "InvalidSubnet.Conflict",
            "Resource.AlreadyAssociated",
            "ResourceInUse",
            "VolumeInUse",
        ],
    ),
    (
        Class::NoCapacity,
        &[
            "InsufficientAddressCapacity",
            "InsufficientCapacity",
            "InsufficientCapacityException",
            "InsufficientCapacityOnHost",
            "InsufficientHostCapacity",
            "InsufficientInstanceCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientReservedInstancesCapacity",
            "InsufficientVolumeCapacity",
            "ReservationCapacityExceeded",
        ],
    ),
    (
        Class::Quota,
        &[
            "InsufficientFreeAddressesInSubnet",
            "MaxSpotInstanceCountExceeded",
            "ResourceCountExceeded",
            "ServiceQuotaExceeded",
            "ServiceQuotaExceededException",
            "VolumeModificationRateExceeded",
        ],
    ),
];

/// Predicate that matches a family of codes.
type Pattern = fn(&str) -> bool;

/// Classes of whole families of codes, by suffix or prefix.
const PATTERNS: &[(Class, Pattern)] = &[
    (Class::Conflict, |code| code.ends_with(".InUse") || code.ends_with(".Duplicate")),
    (Class::NotFound, |code| code.ends_with(".NotFound") || code.ends_with(".Malformed")),
    (Class::Quota, |code| code.ends_with("LimitExceeded") || code.ends_with("QuotaExceeded")),
    (Class::Quota, |code| code.starts_with("Insufficient")),
];

impl Class {
    /// Returns the class of a code. The code takes precedence over the status, because a lack of capacity is a 500.
    pub fn of(status: u16, code: &str) -> Self {
        // State reasons and older endpoints have a prefix that names the side at fault.
        let code = code.trim_start_matches("Server.").trim_start_matches("Client.");
        let known = TABLE.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class);
        let known = known.or_else(|| PATTERNS.iter().find(|(_, matches)| matches(code)).map(|(class, _)| *class));
        known.unwrap_or(match status {
            401 | 403 => Self::Unauthorized,
            429 => Self::Throttled,
            500.. => Self::Unavailable,
            _ => Self::Invalid,
        })
    }

    const fn refusal(self, after: Option<Duration>) -> DriverErrorKind {
        match self {
            Self::Throttled | Self::Unavailable => DriverErrorKind::Retryable { after },
            Self::Unauthenticated | Self::ClockSkew | Self::Unauthorized | Self::AccountBlocked => {
                DriverErrorKind::Denied
            }
            Self::Protected => DriverErrorKind::Protected,
            Self::Conflict => DriverErrorKind::Conflict,
            Self::NoCapacity => DriverErrorKind::NoCapacity,
            Self::Quota => DriverErrorKind::Exhausted,
            Self::NotFound => DriverErrorKind::NotFound,
            Self::Invalid => DriverErrorKind::Invalid,
        }
    }

    /// Text for clients in place of AWS's message, which names the operator's account and user; `None` if the message
    /// can be shown.
    pub fn replacement_message(self, action: &str) -> Option<String> {
        Some(match self {
            Self::Unauthorized => {
                format!("the operator's credentials do not allow {action}; ask the operator to check the server's log")
            }
            Self::Unauthenticated => {
                "AWS rejected the operator's credentials, which are wrong or expired; ask the operator to renew them"
                    .to_owned()
            }
            Self::ClockSkew => {
                "AWS rejected the time of this server's clock; ask the operator to synchronize it".to_owned()
            }
            Self::AccountBlocked => {
                format!(
                    "the operator's AWS account cannot use {action} in this region; ask the operator to check the server's log"
                )
            }
            _ => return None,
        })
    }
}

/// Creates the error for a response with this status, code and message.
pub fn error(status: u16, code: &str, message: &str) -> DriverError {
    error_after(status, code, message, None)
}

/// Like [`error`], for a response that asks for a pause.
pub fn error_after(status: u16, code: &str, message: &str, after: Option<Duration>) -> DriverError {
    let mut message: String = message.chars().filter(|character| !character.is_control()).collect();
    if let Some((at, _)) = message.char_indices().nth(MAX_MESSAGE_LENGTH) {
        message.truncate(at);
        message.push('…');
    }
    let class = Class::of(status, code);
    if class == Class::Protected {
        message.push_str("; remove the protection at AWS, then retry");
    }
    DriverError::new(class.refusal(after.map(|after| after.min(MAX_RETRY_AFTER))), code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_the_table_has_exactly_one_class() {
        let mut seen = Vec::new();
        for (class, codes) in TABLE {
            for code in *codes {
                assert!(!seen.contains(code), "{code} is listed twice");
                seen.push(code);
                for status in [400, 403, 500, 503] {
                    assert_eq!(Class::of(status, code), *class, "{code}");
                    assert_eq!(Class::of(status, &format!("Client.{code}")), *class, "{code}");
                    assert_eq!(Class::of(status, &format!("Server.{code}")), *class, "{code}");
                }
            }
        }
    }

    #[test]
    fn codes_map_to_the_engines_error_classes() {
        let retryable = DriverErrorKind::Retryable { after: None };
        for (status, code, expected) in [
            (503, "RequestLimitExceeded", retryable),
            (400, "Throttling", retryable),
            (503, "Unavailable", retryable),
            (500, "http_500", retryable),
            (429, "http_429", retryable),
            (403, "UnauthorizedOperation", DriverErrorKind::Denied),
            (403, "http_403", DriverErrorKind::Denied),
            (401, "AuthFailure", DriverErrorKind::Denied),
            (403, "InvalidClientTokenId", DriverErrorKind::Denied),
            (400, "RequestExpired", DriverErrorKind::Denied),
            (403, "OptInRequired", DriverErrorKind::Denied),
            (400, "OperationNotPermitted", DriverErrorKind::Protected),
            (400, "DependencyViolation", DriverErrorKind::Conflict),
            (400, "IncorrectInstanceState", DriverErrorKind::Conflict),
            (400, "VolumeInUse", DriverErrorKind::Conflict),
            (400, "InvalidNetworkInterface.InUse", DriverErrorKind::Conflict),
            (500, "InsufficientInstanceCapacity", DriverErrorKind::NoCapacity),
            (500, "InsufficientVolumeCapacity", DriverErrorKind::NoCapacity),
            (400, "InstanceLimitExceeded", DriverErrorKind::Exhausted),
            (400, "VcpuLimitExceeded", DriverErrorKind::Exhausted),
            (400, "VpcLimitExceeded", DriverErrorKind::Exhausted),
            (400, "InsufficientFreeAddressesInSubnet", DriverErrorKind::Exhausted),
            (400, "InvalidInstanceID.NotFound", DriverErrorKind::NotFound),
            (400, "InvalidInstanceID.Malformed", DriverErrorKind::NotFound),
            (400, "InvalidParameterValue", DriverErrorKind::Invalid),
            (400, "IdempotentParameterMismatch", DriverErrorKind::Invalid),
        ] {
            assert_eq!(error(status, code, "").kind, expected, "{code}");
        }
    }

    #[test]
    fn each_credential_error_has_a_text_without_the_operators_names() {
        let mut texts = Vec::new();
        for (class, _) in TABLE {
            let text = class.replacement_message("RunInstances");
            assert_eq!(text.is_some(), class.refusal(None) == DriverErrorKind::Denied, "{class:?}");
            texts.extend(text);
        }
        let all = texts.len();
        texts.dedup();
        assert_eq!((all, texts.len()), (4, 4), "each class has its own text");
    }

    #[test]
    fn retry_after_is_limited() {
        let after = |seconds| error_after(503, "RequestLimitExceeded", "", Some(Duration::from_secs(seconds))).kind;
        assert_eq!(after(7), DriverErrorKind::Retryable { after: Some(Duration::from_secs(7)) });
        assert_eq!(after(100_000), DriverErrorKind::Retryable { after: Some(MAX_RETRY_AFTER) });
    }

    #[test]
    fn messages_are_a_single_line_of_limited_length() {
        let error_of_long_message = error(403, "UnauthorizedOperation", &format!("no\n{}", "ä".repeat(5000)));
        assert_eq!(error_of_long_message.message.chars().count(), MAX_MESSAGE_LENGTH + 1);
        assert!(error_of_long_message.message.starts_with("noä"));
    }
}
