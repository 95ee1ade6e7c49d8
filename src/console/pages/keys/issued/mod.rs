//! The page after a key was created or rotated: it shows the secret, once.

use askama::Template;
use axum::http::StatusCode;

use crate::{
    api::keys::model::{IssuedKey, KeyView},
    console::{
        browser::Visit,
        client::Reply,
        components::{secret::SecretOnce, time::When},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/keys/issued/issued.html")]
struct Issued<'a> {
    title: &'a str,
    name: String,
    path: String,
    /// Absent if the secret was shown before.
    secret: Option<SecretOnce>,
    /// Until when the previous secret works.
    previous: Option<When>,
}

/// Shows the secret of a new or a rotated key.
pub fn page(visit: &Visit, issued: &Reply<IssuedKey>, title: &str) -> PageResult {
    let key: &KeyView = &issued.body.view;
    let secret = issued.body.key.expose();
    let base = &visit.site.base;
    let shown = visit.may_show_secret(issued.replayed).then(|| SecretOnce {
        label: "Secret".into(),
        secret: secret.to_owned(),
        command: Some(format!(
            "export CLOUDAPI_TOKEN={secret}\ncurl {base}/v1/projects/{} \\\n  -H \"Authorization: Bearer $CLOUDAPI_TOKEN\"",
            key.project_id
        )),
    });
    let path = super::path(key.project_id, key.id);
    let page = Issued {
        title,
        name: super::name(key),
        previous: key.previous_expires_at.filter(|end| *end > visit.now).map(|end| visit.when(end)),
        secret: shown,
        path: path.clone(),
    };
    let builder = visit.page(title).project(key.project_id).crumb("Keys", super::list_path(key.project_id));
    builder.status(StatusCode::OK).shown_at(path).show(&page)
}
