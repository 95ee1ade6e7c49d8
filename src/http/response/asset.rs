//! Files and pages that are compressed once, at build time or at first use, and sent with or without gzip. Responses
//! with data of a caller are never compressed: compressing secrets together with a caller's text reveals them (BREACH).

use std::{
    convert::Infallible,
    io::{self, Read, Write},
};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use futures_util::stream;
use schemars::json_schema;
use sha2::{Digest, Sha256};

use super::html::with_page_headers;
use crate::{
    base::{etag::EntityTag, hex},
    http::{
        describe::{ApiResponse, Argument, RequestEffect, ResponseHeader, ResponseHeaders, ResponseShape, Secrecy},
        request::{negotiation::weighted, precondition::AlternateTag},
    },
};

/// Bytes that are decompressed at a time.
const CHUNK: usize = 16 * 1024;

/// File embedded in the binary.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Media type.
    pub media_type: &'static str,
    /// Content, compressed with gzip.
    pub gzip: &'static [u8],
}

impl Asset {
    /// Returns the tag: the last eight bytes of a gzip file are the checksum and the length of its content (RFC 1952
    /// §2.3.1).
    fn tag(&self) -> String {
        let trailer = self.gzip.last_chunk::<8>().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(trailer))
    }

    fn plain(&self) -> Body {
        let chunks = stream::unfold(GzDecoder::new(self.gzip), async |mut file| {
            let mut chunk = Vec::with_capacity(CHUNK);
            match file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
                Ok(0) => None,
                Ok(_) => Some((Ok::<_, io::Error>(Bytes::from(chunk)), file)),
                Err(error) => Some((Err(error), file)),
            }
        });
        Body::from_stream(chunks)
    }
}

/// Text, plain and compressed. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct CompressedText {
    plain: Bytes,
    /// Empty if compression failed.
    gzip: Bytes,
    tag: String,
}

impl CompressedText {
    /// Compresses `text`.
    pub fn new(text: String) -> Self {
        let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        let gzip = packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).unwrap_or_default();
        let hash: [u8; 32] = Sha256::digest(&text).into();
        let mut tag = String::with_capacity(16);
        hex::push(&mut tag, hash.get(..8).unwrap_or_default());
        Self { plain: text.into(), gzip: gzip.into(), tag }
    }

    /// Returns the response in the encoding that `request` accepts.
    pub fn response(self, media_type: &'static str, request: AcceptedEncoding) -> Response {
        let accepts = AcceptedEncoding { accepts_gzip: request.accepts_gzip && !self.gzip.is_empty() };
        negotiated(media_type, &self.tag, accepts, || self.gzip.into(), || self.plain.into())
    }
}

/// Encodings that a request accepts.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedEncoding {
    accepts_gzip: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for AcceptedEncoding {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { accepts_gzip: accepts_gzip(&parts.headers) })
    }
}

impl Argument for AcceptedEncoding {}

/// Returns whether `Accept-Encoding` accepts gzip and does not prefer `identity` (RFC 9110 §12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for (coding, weight) in weighted(headers, &header::ACCEPT_ENCODING) {
        match coding.as_str() {
            "*" => any = Some(weight),
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// Returns 200 with one of two encodings, each with a separate ETag. The gate responds with 304 if the request has
/// either tag.
fn negotiated(
    media_type: &'static str,
    tag: &str,
    request: AcceptedEncoding,
    gzip: impl FnOnce() -> Body,
    plain: impl FnOnce() -> Body,
) -> Response {
    let (of_plain, of_gzip) = (EntityTag::strong(tag), EntityTag::strong(format!("{tag}-gzip")));
    let (mut response, sent, other) = match request.accepts_gzip {
        true => (Response::new(gzip()), of_gzip, of_plain),
        false => (Response::new(plain()), of_plain, of_gzip),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if request.accepts_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(sent) = HeaderValue::from_str(&sent.to_string()) {
        headers.insert(header::ETAG, sent);
    }
    response.extensions_mut().insert(AlternateTag(other));
    response
}

/// Response: 200 with a file.
#[derive(Debug)]
pub struct File {
    /// File.
    pub asset: Asset,
    /// Accepted encodings.
    pub request: AcceptedEncoding,
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        let Self { asset, request } = self;
        let gzip = || Bytes::from_static(asset.gzip).into();
        with_page_headers(negotiated(asset.media_type, &asset.tag(), request, gzip, || asset.plain()))
    }
}

impl ApiResponse for File {
    const SHAPE: ResponseShape = ResponseShape {
        status: 200,
        description: "The file.",
        media_types: &["text/css", "text/javascript", "text/plain", "image/svg+xml"],
        schema: |_| json_schema!({ "type": "string" }),
        headers: ResponseHeaders::NONE.with(ResponseHeader::ETag),
        others: &[],
        dry_run: None,
        effect: RequestEffect::OfMethod,
        secrecy: Secrecy::Open,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_accept_encoding_select_gzip() {
        let accepts = |codings: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(codings).unwrap());
            accepts_gzip(&headers)
        };
        for codings in
            ["gzip", "br, GZIP;q=0.5", "*", "deflate, *;q=0.1", "gzip;q=1, identity;q=0.5", "x-gzip", "gzip ; q=0.001"]
        {
            assert!(accepts(codings), "{codings}");
        }
        for codings in
            ["", "br", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=1, gzip;q=0", "gzip;q=0.2, identity", "gzip;q=x"]
        {
            assert!(!accepts(codings), "{codings}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
