//! The page after a token was created: it shows the secret, once.

use askama::Template;
use axum::http::StatusCode;

use crate::{
    api::tokens::model::IssuedToken,
    console::{
        browser::Visit,
        client::Reply,
        components::{secret::SecretOnce, time::When},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/tokens/issued/issued.html")]
struct Issued {
    name: String,
    path: String,
    expires: When,
    /// Absent if the secret was shown before.
    secret: Option<SecretOnce>,
}

/// Shows the secret of a new token.
pub fn page(visit: &Visit, issued: &Reply<IssuedToken>) -> PageResult {
    let token = &issued.body.view;
    let secret = issued.body.token.expose();
    let base = &visit.site.base;
    let shown = visit.may_show_secret(issued.replayed).then(|| SecretOnce {
        label: "Secret".into(),
        secret: secret.to_owned(),
        command: Some(format!(
            "export CLOUDAPI_TOKEN={secret}\ncurl {base}/v1/projects/{} \\\n  -H \"Authorization: Bearer $CLOUDAPI_TOKEN\"",
            token.project_id
        )),
    });
    let path = super::path(token.project_id, token.id);
    let page =
        Issued { name: token.name.clone(), expires: visit.when(token.expires_at), secret: shown, path: path.clone() };
    let builder = visit.page("Token created").project(token.project_id);
    builder.crumb("Tokens", super::list_path(token.project_id)).status(StatusCode::OK).shown_at(path).show(&page)
}
