//! Checks of the framing of a request. If a proxy and a server interpret the framing differently, they can disagree
//! about where one request ends and the next begins (request smuggling). hyper checks lengths. The server finds what
//! hyper does not report, such as a bare LF, in the bytes ([`BadFraming`]).

use axum::{
    extract::Request,
    http::{HeaderValue, Version, header, uri::Authority},
};

use crate::base::error::{Code, Error, Result};

/// Request extension: the head of an HTTP/1 request must be rejected, for this reason.
#[derive(Clone, Copy, Debug)]
pub struct BadFraming(pub &'static str);

/// Rejects framing that RFC 9112 allows or requires a server to reject.
pub fn check(request: &Request) -> Result<()> {
    if let Some(BadFraming(detail)) = request.extensions().get() {
        return Err(malformed(detail));
    }
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // RFC 9112 §3.2. HTTP/2 has a pseudo-header instead; HTTP/1.0 does not require Host.
        (_, Some(_)) => return Err(malformed("An HTTP/1.1 request must have exactly one Host header; send one")),
        (None, None) if request.version() == Version::HTTP_11 => {
            return Err(malformed("An HTTP/1.1 request must have exactly one Host header; send one"));
        }
        (Some(host), None) if !is_host(host) => {
            return Err(malformed(
                "The Host header must be a host name with an optional port; send the host of the URL",
            ));
        }
        _ => {}
    }
    let Some(coding) = headers.get(header::TRANSFER_ENCODING) else { return Ok(()) };
    // RFC 9112 §7: a JSON API needs no other coding, and the body would be interpreted incorrectly.
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || headers.get_all(header::TRANSFER_ENCODING).iter().count() > 1
    {
        return Err(malformed(
            "The only supported Transfer-Encoding is 'chunked'; send the body without another coding",
        ));
    }
    Ok(())
}

/// Returns whether the value is a host name or address with an optional port. It may be empty (RFC 9110 §7.2).
fn is_host(host: &HeaderValue) -> bool {
    let text = host.as_bytes();
    // The usual form, a name or an IPv4 address with a port, needs no parser.
    let (name, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) => text.split_at(colon),
        None => (text, &b""[..]),
    };
    let is_plain = name.is_empty() == text.is_empty()
        && port.len() != 1
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && port.iter().skip(1).all(u8::is_ascii_digit);
    is_plain || (!text.contains(&b'@') && Authority::try_from(text).is_ok())
}

fn malformed(detail: &'static str) -> Error {
    Error::new(Code::MalformedRequest, detail)
}
