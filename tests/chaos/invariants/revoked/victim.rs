//! Credentials that are created to be revoked, and all the ways to revoke them.

use std::sync::Arc;

use cloudapi::{
    api::sessions,
    base::{id::UserId, runtime::clock::Clock},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    harness::{
        client::Client,
        http::{Request, Response},
    },
    servers::cluster::{Cluster, Credentials, text},
};

/// A credential, or one of its permissions, that is about to be revoked.
pub struct Victim {
    /// What is revoked, and how.
    pub kind: &'static str,
    /// Requests that each show whether a node accepts it.
    pub probes: Vec<Probe>,
    /// The request that revokes it.
    pub end: Arc<Request>,
}

/// A request that shows whether a node accepts a credential.
pub struct Probe {
    pub request: Request,
    accepts: Accepts,
}

#[derive(Clone, Copy)]
enum Accepts {
    /// Sent with the credential, which is accepted if the request succeeds.
    Success,
    /// Introspects the credential, which is accepted if it is active.
    Active,
    /// Introspects the credential, which is accepted if it has this scope.
    Scope(&'static str),
}

/// How a node treats a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Accepted,
    Refused,
    /// The node cannot check it.
    Unavailable,
    /// A response that no node should send.
    Unexpected,
}

impl Probe {
    pub fn read(&self, response: &Response) -> ProbeResult {
        let of = |accepts: bool| if accepts { ProbeResult::Accepted } else { ProbeResult::Refused };
        match (self.accepts, response.status) {
            (_, 503) => ProbeResult::Unavailable,
            (Accepts::Success, 200 | 201) => ProbeResult::Accepted,
            // 429 is for an address that was refused too often.
            (Accepts::Success, 401 | 403 | 429) => ProbeResult::Refused,
            (Accepts::Active, 200) => of(response.json()["active"] == true),
            (Accepts::Scope(scope), 200) => {
                of(response.json()["scope"].as_str().is_some_and(|scopes| scopes.split(' ').any(|one| one == scope)))
            }
            // A refusal of the introspecting credential, which nobody has revoked.
            _ => ProbeResult::Unexpected,
        }
    }
}

/// A created credential.
pub struct Created {
    pub id: String,
    pub secret: String,
}

const SCOPE: &str = "usage:read";

/// Creates victims.
pub struct CredentialFactory {
    credentials: Credentials,
    /// The user whose sessions are created.
    user: UserId,
    db: PgPool,
}

impl CredentialFactory {
    pub async fn new(cluster: &Cluster) -> Self {
        let user = sqlx::query_scalar("SELECT id FROM users").fetch_one(&cluster.db).await.unwrap();
        Self { credentials: cluster.credentials.clone(), user, db: cluster.db.clone() }
    }

    /// A random kind of victim.
    pub async fn make(&self, client: &mut Client) -> Victim {
        match client.random.below(16) {
            0..5 => {
                let key = self.key(client, None).await;
                self.victim("key deleted", &key, self.delete("keys", &key))
            }
            5..7 => {
                let key = self.key(client, None).await;
                let token = self.token(client, &key.secret).await;
                self.victim("token deleted", &token, self.delete("tokens", &token))
            }
            7..9 => {
                let key = self.key(client, None).await;
                let token = self.token(client, &key.secret).await;
                self.victim("token's key deleted", &token, self.delete("keys", &key))
            }
            9 => {
                let parent = self.token(client, &self.credentials.key).await;
                let token = self.token(client, &parent.secret).await;
                self.victim("token's token deleted", &token, self.delete("tokens", &parent))
            }
            10 => {
                let key = self.key(client, None).await;
                let token = self.token(client, &key.secret).await;
                let child = self.token(client, &token.secret).await;
                self.victim("token's token's key deleted", &child, self.delete("keys", &key))
            }
            11 => {
                let session = self.session(client).await;
                let end = self.by_owner("DELETE", format!("/v1/sessions/{}", session.id), None);
                let direct = self.direct(&session, "/v1/projects?limit=1");
                Victim { kind: "session ended", probes: vec![direct], end: Arc::new(end) }
            }
            12 => {
                let key = self.key(client, None).await;
                let path = format!("/v1/keys/{}/rotate", key.id);
                let end = self.once(client, "POST", path, Some(json!({ "overlap_seconds": 0 })));
                self.victim("key rotated", &key, end)
            }
            13 => {
                let key = self.key(client, None).await;
                let path = format!("/v1/keys/{}", key.id);
                let end = self.once(client, "PATCH", path, Some(json!({ "scopes": ["users:read"] })));
                let token = self.token(client, &key.secret).await;
                let probes = vec![self.about(&token, Accepts::Scope(SCOPE)), self.direct(&key, "/v1/usage")];
                Victim { kind: "scope taken from a key", probes, end: Arc::new(end) }
            }
            14 => {
                let key = self.key(client, None).await;
                let path = format!("/v1/keys/{}", key.id);
                // A network reserved for documentation, which contains no client.
                let end = self.once(client, "PATCH", path, Some(json!({ "allowed_ips": ["192.0.2.0/24"] })));
                let token = self.token(client, &key.secret).await;
                let probes = vec![self.direct(&key, "/v1/usage"), self.direct(&token, "/v1/usage")];
                Victim { kind: "key's networks narrowed", probes, end: Arc::new(end) }
            }
            _ => {
                let project = self.project(client).await;
                let key = self.key(client, Some(&project)).await;
                let token = self.token(client, &key.secret).await;
                let end = self.once(client, "POST", format!("/v1/projects/{project}/suspend"), None);
                let probes = vec![self.direct(&key, "/v1/usage"), self.direct(&token, "/v1/usage")];
                Victim { kind: "project suspended", probes, end: Arc::new(end) }
            }
        }
    }

    /// A key or token that is introspected and used.
    fn victim(&self, kind: &'static str, of: &Created, end: Request) -> Victim {
        let probes = vec![self.about(of, Accepts::Active), self.direct(of, "/v1/usage")];
        Victim { kind, probes, end: Arc::new(end) }
    }

    /// Introspects the credential. A node can answer from its cache, without the database.
    pub fn is_active(&self, of: &Created) -> Probe {
        self.about(of, Accepts::Active)
    }

    fn about(&self, of: &Created, accepts: Accepts) -> Probe {
        let (path, secret) = ("/v1/tokens/introspect".to_owned(), self.credentials.key.clone());
        let request = Request { method: "POST", path, secret, key: None, body: Some(json!({ "token": of.secret })) };
        Probe { request, accepts }
    }

    /// Uses the credential itself.
    pub fn direct(&self, by: &Created, path: &str) -> Probe {
        let (path, secret) = (path.to_owned(), by.secret.clone());
        Probe { request: Request { method: "GET", path, secret, key: None, body: None }, accepts: Accepts::Success }
    }

    pub fn delete(&self, what: &str, made: &Created) -> Request {
        self.by_owner("DELETE", format!("/v1/{what}/{}", made.id), None)
    }

    fn by_owner(&self, method: &'static str, path: String, body: Option<Value>) -> Request {
        Request { method, path, secret: self.credentials.session.clone(), key: None, body }
    }

    /// Half of the time with an `Idempotency-Key`: a replayed response makes the same guarantee.
    fn once(&self, client: &mut Client, method: &'static str, path: String, body: Option<Value>) -> Request {
        let key = client.random.percent(50).then(|| format!("revoked-{:016x}", client.random.next()));
        Request { key, ..self.by_owner(method, path, body) }
    }

    async fn project(&self, client: &mut Client) -> String {
        let request = self.by_owner("POST", "/v1/projects".to_owned(), Some(json!({ "name": "to be suspended" })));
        text(&created(client, request).await["id"])
    }

    /// Uses another database connection, as after a failover.
    pub fn set_db(&mut self, db: &PgPool) {
        self.db = db.clone();
    }

    pub async fn key(&self, client: &mut Client, project: Option<&str>) -> Created {
        let project = project.unwrap_or(&self.credentials.project);
        let body = json!({ "project_id": project, "name": "to be revoked" });
        let made = created(client, self.by_owner("POST", "/v1/keys".to_owned(), Some(body))).await;
        Created { id: text(&made["id"]), secret: text(&made["key"]) }
    }

    pub async fn token(&self, client: &mut Client, issuer: &str) -> Created {
        let body = json!({ "name": "to be revoked", "scopes": [SCOPE, "tokens:write"] });
        let (path, secret) = ("/v1/tokens".to_owned(), issuer.to_owned());
        let made = created(client, Request { method: "POST", path, secret, key: None, body: Some(body) }).await;
        Created { id: text(&made["id"]), secret: text(&made["token"]) }
    }

    /// Issued without signing in, because password hashing takes too long.
    async fn session(&self, client: &mut Client) -> Created {
        loop {
            let issuing = async {
                let email = "ada@example.com".parse().unwrap();
                let mut db = self.db.acquire().await?;
                sessions::repo::issue(&mut db, self.user, email, Clock::system().now()).await
            };
            match issuing.await {
                Ok(issued) => return Created { id: issued.id.to_string(), secret: issued.token.expose().to_owned() },
                // PostgreSQL is being restarted.
                Err(_) => tokio::time::sleep(client.random.millis(5, 40)).await,
            }
        }
    }
}

async fn created(client: &mut Client, request: Request) -> Value {
    let response = client.send_until_final(&Arc::new(request)).await;
    assert_eq!(response.status, 201, "{response:?}");
    response.json()
}
