//! W3C Trace Context (level 1): identifies the work of several services on one request.

use std::{fmt, num::NonZeroU64, num::NonZeroU128};

/// Trace of a request, and this server's span in it.
///
/// Its text form is the `traceparent` of outgoing requests. The text can be stored, and a worker that continues the
/// work resumes the trace with [`TraceContext::child_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    /// Span of this server, unique for each context.
    span_id: NonZeroU64,
    is_sampled: bool,
}

/// Length of `00-`, trace ID, `-`, span ID, `-`, flags.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
/// The only flag of level 1. Level 1 requires that other flags are not propagated.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// Starts a trace. It is not sampled, because this server records no traces.
    pub fn new_root() -> Self {
        // Zero is not a valid ID. Its probability is 2^-128, and 2^-64 for a span.
        let trace_id = NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN);
        Self { trace_id, span_id: new_span(), is_sampled: false }
    }

    /// Creates a child span of `traceparent`, or returns `None` if it is invalid. Parsing is strict, because the IDs
    /// are logged and sent to other services.
    pub fn child_of(traceparent: &str) -> Option<Self> {
        let version = hex(traceparent.get(..2)?)?;
        let is_complete = match version {
            // A later version can append fields, after another dash.
            1..=0xfe => traceparent.get(LENGTH..).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
            0 => traceparent.len() == LENGTH,
            _ => false,
        };
        let mut fields = traceparent.get(3..LENGTH)?.split('-');
        let (trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let is_well_formed = is_complete
            && traceparent.get(2..3) == Some("-")
            && (trace.len(), parent.len(), flags.len()) == (32, 16, 2)
            && fields.next().is_none();
        if !is_well_formed {
            return None;
        }
        // 0 is not a valid span ID.
        hex(parent).filter(|parent| *parent != 0)?;
        let is_sampled = hex(flags)? & u128::from(SAMPLED) != 0;
        Some(Self { trace_id: NonZeroU128::new(hex(trace)?)?, span_id: new_span(), is_sampled })
    }

    /// Creates another span of the same trace. Each outgoing request has its own span, so that the receiver can
    /// distinguish them.
    #[must_use]
    pub fn next_span(self) -> Self {
        Self { span_id: new_span(), ..self }
    }

    /// Trace ID: 32 hexadecimal digits.
    pub fn trace_id(self) -> impl fmt::Display {
        struct TraceId(NonZeroU128);
        impl fmt::Display for TraceId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        TraceId(self.trace_id)
    }
}

/// Formats the context as a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

fn new_span() -> NonZeroU64 {
    NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN)
}

/// Parses lowercase hexadecimal, as the standard requires. `from_str_radix` also accepts a sign and upper case.
fn hex(text: &str) -> Option<u128> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_traceparent_is_followed_by_a_new_span() {
        let ours = TraceContext::child_of(GIVEN).unwrap();
        assert_eq!(ours.trace_id().to_string(), TRACE);
        let (sent, next) = (ours.to_string(), ours.next_span().to_string());
        assert!(sent.starts_with(&GIVEN[..36]) && sent.ends_with("-01"), "{sent}");
        assert!(sent != GIVEN && next != sent && next[..36] == sent[..36], "{sent} {next}");
        // The sent traceparent is valid.
        assert_eq!(TraceContext::child_of(&sent).unwrap().trace_id().to_string(), TRACE);
    }

    #[test]
    fn known_fields_of_a_later_version_are_parsed() {
        for later in [format!("cc{}", &GIVEN[2..]), format!("01{}-what-comes", &GIVEN[2..])] {
            let sent = TraceContext::child_of(&later).unwrap().to_string();
            assert!(sent.starts_with("00-4bf9") && sent.len() == LENGTH, "{sent}");
        }
        assert!(TraceContext::child_of(&format!("01{}.what-comes", &GIVEN[2..])).is_none());
    }

    #[test]
    fn unknown_flags_are_not_propagated() {
        let with_flags = |flags: &str| TraceContext::child_of(&format!("{}{flags}", &GIVEN[..53])).unwrap().to_string();
        assert!(with_flags("ff").ends_with("-01"));
        assert!(with_flags("fe").ends_with("-00"));
    }

    #[test]
    fn invalid_traceparent_is_ignored() {
        let replaced = |from: &str, to: &str| GIVEN.replacen(from, to, 1);
        for text in [
            String::new(),
            "00".into(),
            TRACE.into(),
            replaced("00-", "ff-"),
            replaced("00-", "0-"),
            replaced("00-", "0g-"),
            replaced(TRACE, &"0".repeat(32)),
            replaced("00f067aa0ba902b7", &"0".repeat(16)),
            replaced("4bf9", "4BF9"),
            replaced("4bf9", "+bf9"),
            replaced("4bf9", "4bf"),
            replaced("4736-00f0", "47-3600f0"),
            replaced("-01", "-1"),
            replaced("-01", "_01"),
            replaced("-01", "-0x"),
            format!("{GIVEN}-00"),
            format!("{GIVEN} "),
            format!(" {GIVEN}"),
            GIVEN.replace('-', "_"),
            GIVEN.replace('f', "é"),
        ] {
            assert!(TraceContext::child_of(&text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn each_new_trace_has_its_own_id() {
        let (one, other) = (TraceContext::new_root(), TraceContext::new_root());
        assert_ne!(one.trace_id().to_string(), other.trace_id().to_string());
        assert!(one.to_string().ends_with("-00") && one.to_string().len() == LENGTH);
    }
}
