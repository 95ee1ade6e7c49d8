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
        PublicUrl,
        request::extract::PathValue,
        response::{
            asset::{AcceptedEncoding, File},
            html::{Html, HtmlFile},
        },
    },
};

/// API reference.
pub async fn reference(_: Public, request: AcceptedEncoding) -> Result<Html> {
    Ok(Html { page: pages::reference(), request })
}

/// Index of the guides.
pub async fn guides(_: Public, request: AcceptedEncoding) -> Result<HtmlFile> {
    Ok(HtmlFile(File { asset: guides::INDEX, request }))
}

/// Page of one guide.
pub async fn guide(_: Public, request: AcceptedEncoding, PathValue(guide): PathValue<Guide>) -> Result<HtmlFile> {
    Ok(HtmlFile(File { asset: guide.asset(), request }))
}

/// List of all error codes.
pub async fn errors(_: Public, request: AcceptedEncoding) -> Result<Html> {
    Ok(Html { page: pages::errors(), request })
}

/// Page of one error code.
pub async fn error(
    _: Public,
    State(public_url): State<PublicUrl>,
    request: AcceptedEncoding,
    PathValue(code): PathValue<Code>,
) -> Result<Html> {
    Ok(Html { page: pages::error(code, &public_url), request })
}

/// Static file of the pages.
pub async fn asset(_: Public, request: AcceptedEncoding, PathValue(file): PathValue<DocsFile>) -> Result<File> {
    Ok(File { asset: file.asset(), request })
}
