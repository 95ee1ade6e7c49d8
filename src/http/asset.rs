//! Files that are part of the binary. They stay compressed in it: a browser gets the bytes as they
//! are, without a copy, and for whoever takes no gzip they are unpacked piece by piece.

use std::{
    convert::Infallible,
    io::{self, Read},
};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use flate2::read::GzDecoder;
use futures_util::stream;
use schemars::json_schema;

use super::{
    describe::{Answer, AnswerShape, Argument},
    html::page_headers,
};

/// How much is unpacked at a time.
const PIECE: usize = 16 * 1024;

/// A file in the binary.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes, compressed with gzip.
    pub gzip: &'static [u8],
}

impl Asset {
    /// The last eight bytes of a gzip file are the checksum and the length of what is in it (RFC 1952
    /// §2.3.1). Weak, because it is the same for the compressed file and the plain one.
    fn etag(&self) -> String {
        let trailer = self.gzip.last_chunk::<8>().copied().unwrap_or_default();
        format!("W/\"{:016x}\"", u64::from_be_bytes(trailer))
    }

    fn plain(&self) -> Body {
        let pieces = stream::unfold(GzDecoder::new(self.gzip), async |mut file| {
            let mut piece = Vec::with_capacity(PIECE);
            match file.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => None,
                Ok(_) => Some((Ok::<_, io::Error>(Bytes::from(piece)), file)),
                Err(error) => Some((Err(error), file)),
            }
        });
        Body::from_stream(pieces)
    }
}

/// What a request for a file says of what its sender has and takes.
#[derive(Debug)]
pub struct FileRequest {
    takes_gzip: bool,
    has: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for FileRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let has = items(&parts.headers, header::IF_NONE_MATCH).map(str::to_owned).collect();
        let takes_gzip = items(&parts.headers, header::ACCEPT_ENCODING).any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            // "q=0" and "q=0.000" say: anything but this.
            let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.']).is_empty());
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        });
        Ok(Self { takes_gzip, has })
    }
}

impl Argument for FileRequest {}

fn items(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// 200 with a file, or 304 for whoever has it.
#[derive(Debug)]
pub struct File {
    /// The file.
    pub asset: Asset,
    /// What was asked.
    pub request: FileRequest,
}

impl IntoResponse for File {
    fn into_response(self) -> Response {
        let Self { asset, request } = self;
        let etag = asset.etag();
        let mut headers = page_headers();
        // Asked for anew each time, which costs a 304: after an update no page gets a file of before.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(header::ETAG, etag);
        }
        if request.has.iter().any(|has| *has == etag || has == "*") {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
        if request.takes_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            return (headers, Bytes::from_static(asset.gzip)).into_response();
        }
        (headers, asset.plain()).into_response()
    }
}

impl Answer for File {
    const SHAPE: AnswerShape = AnswerShape {
        status: 200,
        description: "The file.",
        media_types: &["text/css", "text/javascript", "text/plain", "image/svg+xml"],
        schema: |_| json_schema!({ "type": "string" }),
        location: false,
        others: &[(304, "The file is still the one whose ETag If-None-Match names.")],
        etag: false,
        dry_run: None,
        once: false,
        private: false,
        read: false,
        as_of: false,
    };
}
