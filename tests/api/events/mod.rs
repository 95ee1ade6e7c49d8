//! Events of a project: the list and the stream.

mod list;
mod stream;

use serde_json::Value;

use crate::support::{Identity, Session, contract, eventually};

const EVENTS: &str = "/v1/events";

/// All listed events of a project.
pub async fn listed(who: &impl Identity) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = who.get(&format!("{EVENTS}?limit=100{cursor}")).await.ok();
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    all.iter().for_each(contract::check_event);
    all
}

pub fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Creates a key; returns its event when the event is listed.
pub async fn trigger_event(owner: &Session<'_>, reader: &impl Identity) -> Value {
    let made = owner.key().await;
    eventually("event listed", async || {
        let page = reader.get(&format!("{EVENTS}?order=desc&limit=5")).await.ok();
        page["data"].as_array().unwrap().iter().find(|event| event["subject"] == made.id.as_str()).cloned()
    })
    .await
}
