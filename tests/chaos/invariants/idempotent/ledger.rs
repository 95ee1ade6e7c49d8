//! Compares the responses that clients received with the database.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::{
    harness::{
        client::Entry,
        http::{Request, Response},
    },
    invariants::Verdict,
};

/// A write and all responses to it.
pub struct Write {
    pub request: Arc<Request>,
    /// Successes only.
    pub responses: Vec<Response>,
}

impl Write {
    /// The writes in a log by their `Idempotency-Key`, in a reproducible order.
    pub fn all_in(log: &[Entry]) -> BTreeMap<String, Self> {
        let mut writes = BTreeMap::new();
        for entry in log {
            let Some(key) = entry.request.key.clone().filter(|key| key.starts_with("chaos-")) else { continue };
            let new = || Self { request: Arc::clone(&entry.request), responses: Vec::new() };
            let write = writes.entry(key).or_insert_with(new);
            write.responses.extend(entry.response.clone().filter(Response::is_success));
        }
        writes
    }

    pub fn is_acknowledged(&self) -> bool {
        !self.responses.is_empty()
    }

    fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.request.key.as_deref().unwrap_or_default()).to_vec()
    }

    /// The name of its effect in the database, which is unique for each write.
    fn effect(&self) -> Effect {
        let body = self.request.body.clone().unwrap_or_default();
        match (self.request.method, body["name"].as_str()) {
            ("POST", Some(name)) => Effect::Made(name.to_owned()),
            _ => Effect::Edited(self.request.path.rsplit('/').next().unwrap_or_default().to_owned()),
        }
    }

    /// Regardless of retries, all responses are identical byte for byte, and at most one of them is not a replay.
    pub fn require_one_answer(&self, verdict: &mut Verdict) {
        let shown = |response: &Response| {
            (response.status, response.body.clone(), response.header("location").map(str::to_owned))
        };
        let same = self.responses.windows(2).all(|two| shown(&two[0]) == shown(&two[1]));
        let fresh = self.responses.iter().filter(|response| !response.is_replayed()).count();
        verdict.require(same && fresh <= 1, || {
            format!("{:?} has different responses: {:#?}", self.request, self.responses)
        });
    }
}

enum Effect {
    /// A resource with this name was created.
    Made(String),
    /// The project with this ID has one more version.
    Edited(String),
}

/// What the database contains of all writes.
pub struct Ledger {
    /// IDs of created resources, by name.
    made: HashMap<String, Vec<String>>,
    /// How often each project was edited.
    edits: HashMap<String, usize>,
    /// How many idempotency records a key has, by its hash.
    records: HashMap<Vec<u8>, usize>,
}

const MADE: &str = "
    SELECT name, prefix || ltrim(replace(id::text, '-', ''), '0') FROM (
        SELECT name, id, 'proj_' AS prefix FROM projects WHERE name LIKE 'project %'
        UNION ALL SELECT name, id, 'tok_' FROM tokens WHERE name LIKE 'token %'
        UNION ALL SELECT name, id, 'key_' FROM keys WHERE name LIKE 'key %'
    ) AS made";
const EDITS: &str =
    "SELECT 'proj_' || ltrim(replace(id::text, '-', ''), '0'), version - 1 FROM projects WHERE version > 1";
const RECORDS: &str = "SELECT key_hash, count(*) FROM idempotency_records GROUP BY key_hash";

impl Ledger {
    pub async fn read(db: &PgPool) -> Self {
        let mut made = HashMap::<_, Vec<_>>::new();
        for (name, id) in sqlx::query_as::<_, (String, String)>(MADE).fetch_all(db).await.unwrap() {
            made.entry(name).or_default().push(id);
        }
        let count = |count: i64| usize::try_from(count).unwrap();
        let edits = sqlx::query_as::<_, (String, i64)>(EDITS).fetch_all(db).await.unwrap();
        let records = sqlx::query_as::<_, (Vec<u8>, i64)>(RECORDS).fetch_all(db).await.unwrap();
        Self {
            made,
            edits: edits.into_iter().map(|(id, edits)| (id, count(edits))).collect(),
            records: records.into_iter().map(|(hash, records)| (hash, count(records))).collect(),
        }
    }

    pub fn effects(&self) -> usize {
        self.made.values().map(Vec::len).sum::<usize>() + self.edits.values().sum::<usize>()
    }

    pub fn records(&self) -> usize {
        self.records.values().sum()
    }

    pub fn has_record(&self, write: &Write) -> bool {
        self.records.contains_key(&write.hash())
    }

    fn made_ids(&self, name: &str) -> &[String] {
        self.made.get(name).map_or(&[], Vec::as_slice)
    }

    /// Each write has one effect and one record, or neither. There are no others.
    pub fn require_pairs(&self, writes: &BTreeMap<String, Write>, verdict: &mut Verdict) {
        let mut edits = HashMap::<String, usize>::new();
        for write in writes.values() {
            let records = self.records.get(&write.hash()).copied().unwrap_or_default();
            match write.effect() {
                Effect::Made(name) => {
                    let ids = self.made_ids(&name);
                    verdict.require(ids.len() == records && records <= 1, || {
                        format!("{} effects, {records} records: {:?}, {:?}", ids.len(), write.request, write.responses)
                    });
                }
                // Edits cannot be told apart, but they can be counted.
                Effect::Edited(id) => *edits.entry(id).or_default() += records,
            }
        }
        edits.retain(|_, edits| *edits > 0);
        verdict.require(self.edits == edits, || format!("edits {:?}, but edits in records {edits:?}", self.edits));
        verdict.require(self.effects() == self.records(), || {
            format!("{} effects, {} records", self.effects(), self.records())
        });
    }

    /// Each acknowledged write has its effect, as acknowledged.
    pub fn require_acknowledged(&self, writes: &BTreeMap<String, Write>, verdict: &mut Verdict) {
        let acknowledged = writes.values().filter(|write| write.is_acknowledged());
        for (write, response) in acknowledged.clone().filter_map(|write| Some((write, write.responses.first()?))) {
            verdict.require(self.has_record(write), || {
                format!("lost: {:?}, acknowledged with {response:?}", write.request)
            });
            if let Effect::Made(name) = write.effect() {
                let id = response.json()["id"].as_str().unwrap_or_default().to_owned();
                verdict.require(self.made_ids(&name) == [id.as_str()], || {
                    format!("{name} is {:?}, but was acknowledged as {id}", self.made_ids(&name))
                });
            }
        }
        let acknowledged = acknowledged.count();
        verdict.require(acknowledged == self.effects(), || {
            format!("{acknowledged} acknowledged, {} effects", self.effects())
        });
    }
}

#[test]
fn ledger_detects_duplicate_effects_lost_writes_and_missing_records() {
    let body = Some(serde_json::json!({ "name": "project x" }));
    let key = Some("chaos-x".to_owned());
    let request = Request { method: "POST", path: "/v1/projects".into(), secret: String::new(), key, body };
    let response = Response { status: 201, headers: Vec::new(), body: r#"{"id":"proj_1"}"#.into() };
    let log = [Entry { node: 0, request: Arc::new(request), response: Some(response) }];
    let writes = Write::all_in(&log);
    let broken = |ids: &[&str], records: usize| {
        let made = HashMap::from([("project x".to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())]);
        let hash = writes["chaos-x"].hash();
        let records = (records > 0).then_some((hash, records)).into_iter().collect();
        let ledger = Ledger { made, edits: HashMap::new(), records };
        let mut verdict = Verdict::default();
        ledger.require_pairs(&writes, &mut verdict);
        ledger.require_acknowledged(&writes, &mut verdict);
        verdict.broken_count > 0
    };
    assert!(!broken(&["proj_1"], 1));
    assert!(broken(&["proj_1", "proj_2"], 1), "duplicate effect");
    assert!(broken(&[], 0), "lost write");
    assert!(broken(&["proj_1"], 0), "effect without a record");
    assert!(broken(&[], 1), "record without an effect");
    assert!(broken(&["proj_2"], 1), "ID differs from the acknowledged one");
}
