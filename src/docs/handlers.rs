//! Handlers of the HTML pages.

use axum::extract::State;

use super::{assets::DocsFile, pages};
use crate::{
    auth::grant::Public,
    base::error::{Code, Result},
    http::{
        asset::{File, FileRequest},
        extract::PathWord,
        html::Html,
    },
    state::App,
};

/// API reference.
pub async fn reference(_: Public) -> Result<Html> {
    Ok(pages::reference())
}

/// List of all error codes.
pub async fn errors(_: Public) -> Result<Html> {
    Ok(pages::errors())
}

/// Page of one error code.
pub async fn error(_: Public, State(app): State<App>, PathWord(code): PathWord<Code>) -> Result<Html> {
    Ok(pages::error(code, &app.public_url))
}

/// Static file of the pages.
pub async fn asset(_: Public, request: FileRequest, PathWord(file): PathWord<DocsFile>) -> Result<File> {
    Ok(File { asset: file.asset(), request })
}
