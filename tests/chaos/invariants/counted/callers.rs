//! Who sends requests, for which project, and which requests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Bounds, counts};
use crate::{
    harness::{client::Client, http::Request},
    servers::cluster::{Cluster, text},
};

/// The path of a user that does not exist.
const NOBODY: &str = "/v1/users/usr_00000000000000000000000000";
/// How many projects there are: usage of one must not be counted for another.
const PROJECTS: usize = 2;
/// How many keys each project has, each with one token.
const KEYS: usize = 2;

/// A credential that is used for one project.
pub struct Caller {
    /// Index of the project.
    pub project: usize,
    pub secret: String,
    /// Its ID. None for a session.
    pub id: Option<String>,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Session,
    Key,
    Token,
}

pub struct Callers {
    /// IDs of the projects.
    pub projects: Vec<String>,
    pub all: Vec<Caller>,
    session: String,
    /// Revoked keys of the projects. Requests with one are counted for no caller.
    revoked: Vec<String>,
}

/// A request to send.
pub struct CallerRequest {
    /// The caller that sends it. None if it is counted for no project.
    pub caller: Option<usize>,
    pub request: Request,
    /// Accepted statuses besides 503.
    pub expected: &'static [u16],
}

impl Callers {
    /// Creates them, and returns the requests that this took.
    pub async fn make(cluster: &Cluster) -> (Self, Vec<Bounds>) {
        let session = cluster.credentials.session.clone();
        let mut made = Self { projects: Vec::new(), all: Vec::new(), session, revoked: Vec::new() };
        let mut asked = Vec::new();
        let mut making = Setup { client: cluster.client(0), asked: Bounds::default() };
        for project in 0..PROJECTS {
            let body = json!({ "name": "to be counted" });
            // This request belongs to no project.
            let response = making.send(made.request("POST", "/v1/projects", Some(body))).await;
            let id = text(&response["id"]);
            making.asked = Bounds::default();
            let body = json!({ "project_id": id, "name": "to be counted" });
            let (mut keys, mut session) = (Vec::new(), Bounds::default());
            for _ in 0..=KEYS {
                let key = making.send(made.request("POST", "/v1/keys", Some(body.clone()))).await;
                keys.push((text(&key["id"]), text(&key["key"])));
            }
            let (revoked, secret) = keys.pop().expect("a spare key");
            making.send(made.request("DELETE", &format!("/v1/keys/{revoked}"), None)).await;
            made.revoked.push(secret);
            session = Bounds::of([&session, &std::mem::take(&mut making.asked)]);
            made.add(project, made.session.clone(), None, Kind::Session);
            asked.push(session);
            for (key_id, key) in keys {
                let body =
                    json!({ "name": "to be counted", "scopes": ["projects:read", "users:read", "tokens:introspect"] });
                let token = making.send(request("POST", "/v1/tokens", &key, Some(body))).await;
                made.add(project, key, Some(key_id), Kind::Key);
                asked.push(std::mem::take(&mut making.asked));
                made.add(project, text(&token["token"]), Some(text(&token["id"])), Kind::Token);
                asked.push(Bounds::default());
            }
            made.projects.push(id);
        }
        (made, asked)
    }

    fn add(&mut self, project: usize, secret: String, id: Option<String>, kind: Kind) {
        self.all.push(Caller { project, secret, id, kind });
    }

    fn request(&self, method: &'static str, path: &str, body: Option<Value>) -> Request {
        request(method, path, &self.session, body)
    }

    /// One of the keys of a project, which reads its usage.
    pub fn key_of(&self, project: usize) -> usize {
        let is_key = |caller: &Caller| caller.project == project && caller.kind == Kind::Key;
        self.all.iter().position(is_key).expect("a key of each project")
    }

    /// A random request of a random caller.
    pub fn next_request(&self, client: &mut Client) -> CallerRequest {
        let nobody = |secret: &str, expected| {
            let request = request("GET", "/v1/projects?limit=1", secret, None);
            CallerRequest { caller: None, request, expected }
        };
        match client.random.below(50) {
            // An address that is refused too often receives 429.
            0 => return nobody(&self.revoked[client.random.below(PROJECTS)], &[401, 429]),
            // Counted for no project.
            1 => return nobody(&self.session, &[200]),
            _ => {}
        }
        let number = client.random.below(self.all.len());
        let caller = &self.all[number];
        let by = |method, path: &str, body| request(method, path, &caller.secret, body);
        let (request, expected): (_, &[u16]) = match (caller.kind, client.random.below(20)) {
            (Kind::Session, _) => {
                let project = &self.projects[caller.project];
                (by("GET", &format!("/v1/keys?limit=1&project_id={project}"), None), &[200])
            }
            (_, 0..8) => (by("GET", "/v1/projects?limit=1", None), &[200]),
            (_, 8..14) => {
                let body = json!({ "token": caller.secret });
                (by("POST", "/v1/tokens/introspect", Some(body)), &[200])
            }
            (_, 14..17) => (by("GET", NOBODY, None), &[404]),
            (Kind::Token, 17) => (by("GET", "/v1/keys", None), &[403]),
            _ => (by("POST", "/v1/tokens/introspect", Some(json!({ "no": "token" }))), &[422]),
        };
        CallerRequest { caller: Some(number), request, expected }
    }
}

/// Requests that are sent before any fault.
struct Setup {
    client: Client,
    asked: Bounds,
}

impl Setup {
    async fn send(&mut self, request: Request) -> Value {
        let response = self.client.send_until_final(&Arc::new(request)).await;
        assert!(response.is_success() && counts(&response), "{response:?}");
        self.asked = Bounds::of([&self.asked, &Bounds { acknowledged: 1, refused: 0, received: 1 }]);
        response.json()
    }
}

pub fn request(method: &'static str, path: &str, secret: &str, body: Option<Value>) -> Request {
    Request { method, path: path.to_owned(), secret: secret.to_owned(), key: None, body }
}
