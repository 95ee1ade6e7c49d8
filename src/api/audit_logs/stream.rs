//! Streaming response of an export. Pieces are produced as the client reads them: a slow client delays no other
//! request, and a disconnect ends the export.
//!
//! As with every response, the request's permit is released when the head is sent, and the connection is closed if the
//! client reads nothing for a minute (`server::connections::progress`). The load on the database is bounded by
//! [`super::export`], which holds no resources between two chunks.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream::{self, StreamExt};
use schemars::json_schema;

use super::export::Export;
use crate::{
    audit::{model::DEPLOYMENT, view::Format},
    base::{
        error::Result,
        id::{ProjectId, RequestId},
    },
    http::{
        describe::{ApiResponse, RequestEffect, ResponseHeaders, ResponseShape, Secrecy},
        response::csv,
    },
};

/// Response 200 with a whole trail.
#[derive(Debug)]
pub struct ExportResponse {
    chain: ProjectId,
    format: Format,
    body: Body,
}

impl ExportResponse {
    /// Response without a body.
    pub fn head(chain: ProjectId, format: Format) -> Self {
        Self { chain, format, body: Body::empty() }
    }

    /// Response to the request `request_id`. Waits for the first chunk, so that errors until then become error
    /// responses.
    pub async fn begin(mut export: Export, request_id: RequestId) -> Result<Self> {
        let (chain, format) = (export.chain(), export.format());
        let first = export.next().await?.unwrap_or_default();
        let rest = stream::unfold(Some(export), move |export| async move {
            let mut export = export?;
            match export.next().await {
                Ok(chunk) => Some((Ok(chunk?), Some(export))),
                // The client sees that the response is truncated.
                Err(error) => {
                    let cause = error.cause().map(tracing::field::display);
                    tracing::error!(%request_id, code = %error.code(), cause, "audit export failed");
                    Some((Err(error), None))
                }
            }
        });
        let body = Body::from_stream(stream::iter([Ok::<Bytes, _>(first)]).chain(rest));
        Ok(Self { chain, format, body })
    }
}

impl IntoResponse for ExportResponse {
    fn into_response(self) -> Response {
        let Self { chain, format, body } = self;
        let owner = if chain == DEPLOYMENT { "deployment".to_owned() } else { chain.to_string() };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let media_type = match format {
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => csv::CSV,
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let file = format!("attachment; filename=\"audit-{owner}.{}\"", format.as_str());
        if let Ok(file) = HeaderValue::try_from(file) {
            headers.insert(header::CONTENT_DISPOSITION, file);
        }
        response
    }
}

impl ApiResponse for ExportResponse {
    const SHAPE: ResponseShape = ResponseShape {
        status: 200,
        description: "The whole trail, streamed. In NDJSON, the last line is a signed checkpoint; if it is missing, the response is truncated.",
        media_types: &["application/x-ndjson", "text/csv"],
        schema: |_| json_schema!({ "type": "string" }),
        headers: ResponseHeaders::NONE,
        others: &[],
        dry_run: None,
        effect: RequestEffect::OfMethod,
        secrecy: Secrecy::Open,
    };
}
