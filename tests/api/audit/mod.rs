//! The audit trail: what is recorded, how it is sealed, and how it is read and verified.

mod entries;
mod sealing;
mod trail;
mod writes;

use serde_json::{Value, json};

use crate::support::{Identity, Session};

const PASSWORD: &str = "correct horse battery staple";

fn text(reply: &Value, name: &str) -> String {
    reply[name].as_str().unwrap_or_else(|| panic!("no {name:?} in {reply}")).to_owned()
}

async fn invite(owner: &Session<'_>, email: &str) -> Value {
    let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
    owner.post("/v1/users", body).await.created()
}
