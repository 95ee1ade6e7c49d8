//! What a request's head may say of its own bounds. A proxy and a server that read them differently can be
//! made to disagree where one request ends and the next begins (request smuggling). Lengths are hyper's to
//! judge: it refuses two that differ, and where there are chunks too it goes by those (RFC 9112 §6.3).

use axum::http::{HeaderMap, Version, header};

use crate::base::error::{Code, Error, Result};

/// Refuses what RFC 9112 lets a server refuse or tells it to.
pub fn check(version: Version, headers: &HeaderMap) -> Result<()> {
    let hosts = headers.get_all(header::HOST).iter().count();
    // §3.2. HTTP/2 says it in another way, HTTP/1.0 need not.
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(malformed("An HTTP/1.1 request has one Host header; send one"));
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

fn malformed(detail: &'static str) -> Error {
    Error::new(Code::MalformedRequest, detail)
}
