//! The page after a webhook was created or its secret rotated: it shows the secret, once, and how to check signatures.

use askama::Template;
use axum::http::StatusCode;

use crate::{
    api::webhooks::model::IssuedWebhook,
    console::{
        browser::Visit,
        client::Reply,
        components::{secret::SecretOnce, time::When},
        view::PageResult,
    },
};

/// The guide, whose receivers CI runs.
const GUIDE: &str = include_str!("../../../../../docs/webhooks.md");

#[derive(Template)]
#[template(path = "pages/webhooks/issued/issued.html")]
struct Issued<'a> {
    title: &'a str,
    name: String,
    path: String,
    /// Absent if the secret was shown before.
    secret: Option<SecretOnce>,
    /// Until when deliveries are also signed with the previous secret.
    previous: Option<When>,
    receivers: Vec<Receiver>,
}

/// Receiver that checks signatures.
struct Receiver {
    language: &'static str,
    id: &'static str,
    code: &'static str,
}

/// Shows the secret of a new webhook, or its new secret.
pub fn page(visit: &Visit, issued: &Reply<IssuedWebhook>, title: &str) -> PageResult {
    let webhook = &issued.body.view;
    let secret = issued.body.secret.to_text();
    let shown = visit.may_show_secret(issued.replayed).then(|| SecretOnce {
        label: "Secret".into(),
        command: Some(format!("export WEBHOOK_SECRET='{secret}' PORT=9000")),
        secret,
    });
    let path = super::path(webhook.project_id, webhook.id);
    let page = Issued {
        title,
        name: super::name(webhook),
        previous: webhook.previous_expires_at.filter(|end| *end > visit.now).map(|end| visit.when(end)),
        secret: shown,
        path: path.clone(),
        receivers: [("Python", "receiver-python", "python"), ("Node.js", "receiver-node", "js")]
            .into_iter()
            .filter_map(|(language, id, fence)| Some(Receiver { language, id, code: code(fence)? }))
            .collect(),
    };
    let builder = visit.page(title).project(webhook.project_id);
    builder.crumb("Webhooks", super::list_path(webhook.project_id)).status(StatusCode::OK).shown_at(path).show(&page)
}

/// The first block of code of the guide in this language.
fn code(language: &str) -> Option<&'static str> {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n"))?;
    rest.split_once("\n```").map(|(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guide_has_a_receiver_in_each_language() {
        for language in ["python", "js"] {
            let code = code(language).unwrap();
            assert!(code.contains("WEBHOOK_SECRET") && !code.contains("```"), "{code}");
        }
    }
}
