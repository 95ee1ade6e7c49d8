//! Handlers of the HTML pages.

use axum::extract::State;

use super::{
    assets::DocsFile,
    guides::{self, Guide},
    pages,
};
use crate::{
    auth::grant::Public,
    base::error::{Code, Result},
    http::{
        asset::{File, FileRequest},
        extract::PathWord,
        html::{Html, HtmlFile},
    },
    state::App,
};

/// API reference.
pub async fn reference(_: Public, request: FileRequest) -> Result<Html> {
    Ok(Html { page: pages::reference(), request })
}

/// Index of the guides.
pub async fn guides(_: Public, request: FileRequest) -> Result<HtmlFile> {
    Ok(HtmlFile(File { asset: guides::INDEX, request }))
}

/// Page of one guide.
pub async fn guide(_: Public, request: FileRequest, PathWord(guide): PathWord<Guide>) -> Result<HtmlFile> {
    Ok(HtmlFile(File { asset: guide.asset(), request }))
}

/// List of all error codes.
pub async fn errors(_: Public, request: FileRequest) -> Result<Html> {
    Ok(Html { page: pages::errors(), request })
}

/// Page of one error code.
pub async fn error(
    _: Public,
    State(app): State<App>,
    request: FileRequest,
    PathWord(code): PathWord<Code>,
) -> Result<Html> {
    Ok(Html { page: pages::error(code, &app.public_url), request })
}

/// Static file of the pages.
pub async fn asset(_: Public, request: FileRequest, PathWord(file): PathWord<DocsFile>) -> Result<File> {
    Ok(File { asset: file.asset(), request })
}
