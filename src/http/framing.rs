//! What a request's head may say of its own bounds. A proxy and a server that read them differently can be
//! made to disagree where one request ends and the next begins (request smuggling). Lengths are hyper's to
//! judge; what hyper does not tell, such as a bare LF, the server has found in the bytes ([`BadFraming`]).

use axum::{
    extract::Request,
    http::{HeaderValue, Version, header, uri::Authority},
};

use crate::base::error::{Code, Error, Result};

/// Says of a request of HTTP/1 that its head must be refused, and why.
#[derive(Clone, Copy, Debug)]
pub struct BadFraming(pub &'static str);

/// Refuses what RFC 9112 lets a server refuse or tells it to.
pub fn check(request: &Request) -> Result<()> {
    if let Some(BadFraming(detail)) = request.extensions().get() {
        return Err(malformed(detail));
    }
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // §3.2. HTTP/2 says it in another way, HTTP/1.0 need not.
        (_, Some(_)) => return Err(malformed("An HTTP/1.1 request has one Host header; send one")),
        (None, None) if request.version() == Version::HTTP_11 => {
            return Err(malformed("An HTTP/1.1 request has one Host header; send one"));
        }
        (Some(host), None) if !is_host(host) => {
            return Err(malformed("The Host header is no name with an optional port; send the one of the URL"));
        }
        _ => {}
    }
    let Some(coding) = headers.get(header::TRANSFER_ENCODING) else { return Ok(()) };
    // §7: no other coding is of use to a JSON API, and what is coded otherwise would be read wrongly.
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || headers.get_all(header::TRANSFER_ENCODING).iter().count() > 1
    {
        return Err(malformed("The only Transfer-Encoding taken here is 'chunked'; send the body plain"));
    }
    Ok(())
}

/// A name or address, and perhaps a port. It may be empty (RFC 9110 §7.2).
fn is_host(host: &HeaderValue) -> bool {
    let text = host.as_bytes();
    text.is_empty() || (!text.contains(&b'@') && Authority::try_from(text).is_ok())
}

fn malformed(detail: &'static str) -> Error {
    Error::new(Code::MalformedRequest, detail)
}
