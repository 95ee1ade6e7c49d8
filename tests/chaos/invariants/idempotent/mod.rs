//! `Idempotency-Key`: a write takes effect once, and every retry receives the response of that effect.

mod ledger;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::future::{BoxFuture, LocalBoxFuture, join};
use serde_json::json;

use self::ledger::{Ledger, Write};
use super::{Invariant, RunEnd, Verdict};
use crate::{
    harness::{
        client::Client,
        http::{Request, Response},
    },
    servers::cluster::Credentials,
};

pub struct Idempotent {
    credentials: Credentials,
    clients: usize,
    /// The project that each client edits. Its version counts the edits.
    edited: Mutex<HashMap<usize, String>>,
}

impl Idempotent {
    pub fn new(credentials: &Credentials, clients: usize) -> Self {
        Self { credentials: credentials.clone(), clients, edited: Mutex::default() }
    }

    /// A write with a unique name and a unique key.
    pub fn write(&self, client: &mut Client, kind: &str, path: Option<String>) -> Arc<Request> {
        let name = format!("{kind} {:016x}", client.random.next());
        let Credentials { session, key, project } = &self.credentials;
        let (method, path, secret, body) = match kind {
            "project" => ("POST", "/v1/projects".to_owned(), session, json!({ "name": name })),
            "key" => ("POST", "/v1/keys".to_owned(), session, json!({ "name": name, "project_id": project })),
            "token" => ("POST", "/v1/tokens".to_owned(), key, json!({ "name": name, "scopes": ["users:read"] })),
            _ => ("PATCH", path.expect("a path to edit"), session, json!({ "metadata": { "edit": name } })),
        };
        let key = Some(format!("chaos-{:016x}", client.random.next()));
        Arc::new(Request { method, path, secret: secret.clone(), key, body: Some(body) })
    }

    /// An edit of the client's own project. The first call creates the project instead.
    async fn edit(&self, client: &mut Client) -> Arc<Request> {
        let known = self.edited.lock().unwrap().get(&client.number).cloned();
        if let Some(path) = known {
            return self.write(client, "edit", Some(path));
        }
        let making = self.write(client, "project", None);
        let made = client.send_until_final(&making).await;
        if let Some(id) = made.json()["id"].as_str() {
            self.edited.lock().unwrap().insert(client.number, format!("/v1/projects/{id}"));
        }
        making
    }
}

impl Invariant for Idempotent {
    fn clients(&self) -> usize {
        self.clients
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let request = match client.random.below(10) {
                0..4 => self.write(client, "project", None),
                4..7 => self.write(client, "token", None),
                7 => self.write(client, "key", None),
                _ => self.edit(client).await,
            };
            match client.random.below(10) {
                // Sends the write once and ignores the outcome.
                0 => {
                    let node = client.any_node();
                    client.send(node, &request).await;
                }
                // Sends it twice concurrently, as a queue that delivers twice.
                1 => {
                    let mut twin = client.fork();
                    join(client.send_until_final(&request), twin.send_until_final(&request)).await;
                }
                // Retries although it has a response.
                2 | 3 => {
                    client.send_until_final(&request).await;
                    client.send_until_final(&request).await;
                }
                _ => drop(client.send_until_final(&request).await),
            }
            // Without a pause, clients would use all of a small machine's CPU.
            tokio::time::sleep(client.random.millis(1, 8)).await;
        })
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let mut writes = Write::all_in(&end.log);
            let before = Ledger::read(&end.cluster.db).await;
            // Even for abandoned writes, an effect has its record, and a record its effect.
            before.require_pairs(&writes, &mut verdict);
            let unknown = writes.values().filter(|write| !write.is_acknowledged()).count();

            // Retry the writes whose outcome was ignored.
            let mut late = end.cluster.client(0);
            for write in writes.values_mut() {
                let had_effect = before.has_record(write);
                let was_acknowledged = write.is_acknowledged();
                if was_acknowledged && !late.random.percent(10) {
                    continue;
                }
                let response = late.send_until_final(&write.request).await;
                verdict.require(response.is_replayed() == had_effect, || {
                    format!(
                        "retried at the end, with an effect: {had_effect}: {:?} returned {response:?}",
                        write.request
                    )
                });
                write.responses.push(response);
            }
            for write in writes.values() {
                write.require_one_answer(&mut verdict);
            }
            let after = Ledger::read(&end.cluster.db).await;
            after.require_pairs(&writes, &mut verdict);
            after.require_acknowledged(&writes, &mut verdict);

            verdict.record("writes", writes.len());
            verdict.record("acknowledged only when retried at the end", unknown);
            verdict.record("acknowledged", writes.values().filter(|write| write.is_acknowledged()).count());
            verdict.record("effects", after.effects());
            verdict.record("records", after.records());
            verdict.record("replays", writes.values().flat_map(|write| &write.responses).filter(replayed).count());
            verdict
        })
    }
}

fn replayed(response: &&Response) -> bool {
    response.is_replayed()
}
