//! No issued secret is in a log or in the database. Every test with a [`TestApp`] searches for the secrets that it saw;
//! these tests run a workload on a real server and test the search itself.

use cloudapi::base::identity::secret::SecretKind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Identity, TestApp,
    app::unknown_secret,
    binary::{Deployment, Server},
    cluster, eventually,
    leak_detector::{Leaks, dump},
};

struct Client<'a> {
    server: &'a Server,
    http: reqwest::Client,
    /// Every secret that was sent or received.
    secrets: Vec<String>,
}

impl Client<'_> {
    async fn call(&mut self, method: &str, path: &str, secret: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.server.url));
        if !secret.is_empty() {
            // Stored responses for retries are searched too.
            request = request.bearer_auth(secret).header("idempotency-key", format!("{method}{path}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer: Value =
            serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap_or_default();
        for name in ["key", "token", "invitation"] {
            if let Some(secret) = answer[name].as_str() {
                self.secrets.push(secret.to_owned());
            }
        }
        answer
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_and_in_no_table() {
    let database = cluster::empty_database().await;
    let deployment = Deployment::new();
    let url = cluster::url(&database);
    // The most verbose log level.
    let mut serve = deployment.command(&["serve", "--log", "debug"]);
    serve.env("DATABASE_URL", &url);
    let server = Server::start(serve);
    const PASSWORD: &str = "a password that nobody else has";
    let mut bootstrap =
        deployment.command(&["admin", "bootstrap", "--email", "ada@example.com", "--project", "P", "--json"]);
    let output = bootstrap.env("DATABASE_URL", &url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let session = made["session"]["token"].as_str().unwrap().to_owned();
    let project = made["project"]["id"].clone();

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    // The command may have created the tables before the server did.
    let ready = format!("{}/readyz", server.url);
    eventually("the server to be ready", async || {
        (http.get(&ready).send().await.unwrap().status() == 200).then_some(())
    })
    .await;
    let mut client = Client { server: &server, http, secrets: vec![session.clone(), PASSWORD.into()] };
    let key = client.call("POST", "/v1/keys", &session, Some(json!({ "project_id": project }))).await;
    let (key_id, key) = (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned());
    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let token = client.call("POST", "/v1/tokens", &key, Some(body)).await["token"].as_str().unwrap().to_owned();
    client.call("POST", &format!("/v1/keys/{key_id}/rotate"), &session, Some(json!({}))).await;
    client.call("POST", "/v1/tokens/introspect", &key, Some(json!({ "token": token }))).await;
    let body = json!({ "project_id": project, "email": "joan@example.com", "role": "admin" });
    let invitation = client.call("POST", "/v1/users", &session, Some(body)).await["invitation"].clone();
    let body = json!({ "token": invitation, "password": PASSWORD });
    let joan =
        client.call("POST", "/v1/invitations/accept", "", Some(body)).await["token"].as_str().unwrap().to_owned();
    let sign_in = json!({ "email": "joan@example.com", "password": PASSWORD });
    client.call("POST", "/v1/sessions", "", Some(sign_in)).await;
    client.call("POST", "/v1/sessions", "", Some(json!({ "email": "joan@example.com", "password": "wrong" }))).await;
    let better = "another password that nobody has";
    client.secrets.push(better.into());
    let body = json!({ "current_password": PASSWORD, "new_password": better });
    client.call("POST", "/v1/users/me/password", &joan, Some(body)).await;
    // Secrets in wrong places, and in invalid bodies and IDs.
    client.call("GET", &format!("/v1/users?access_token={key}"), "", None).await;
    client.call("GET", &format!("/v1/users?limit={key}"), &key, None).await;
    client.call("GET", &format!("/v1/keys/{key}"), &session, None).await;
    client.call("POST", "/v1/tokens", &key, Some(json!({ "name": 1, "scopes": [token] }))).await;
    client.call("DELETE", &format!("/v1/keys/{key_id}"), &session, None).await;
    client.call("GET", "/v1/users", &key, None).await;
    let secrets = client.secrets.clone();
    assert!(secrets.len() >= 9, "{}", secrets.len());

    let ended = server.end(Signal::SIGTERM);
    let log = ended.output.join("\n") + &ended.errors.join("\n");
    let dump = dump(&database).await;
    assert!(
        log.contains("/v1/keys/{key_id}") && dump.contains("joan@example.com"),
        "the log or the dump is incomplete"
    );
    for secret in secrets {
        assert!(!log.contains(&secret), "in the log: {secret}");
        assert!(!dump.contains(&secret), "in the database: {secret}");
        // Only the beginning of a secret may be shown.
        let (_, end) = secret.split_at(secret.len().min(14));
        assert!(end.len() < 12 || !(log.contains(end) || dump.contains(end)), "the end of a secret: {secret}");
    }
}

#[tokio::test]
async fn stored_or_logged_secret_is_found_in_any_form() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    app.set_password(&owner, "a password that nobody else has").await;
    assert_eq!(app.leak_detector.leaks(), Leaks::default());
    // The log is captured.
    key.request("GET", "/v1/projects").header("x-request-id", "straw-in-the-stack").send().await.ok();
    assert!(app.leak_detector.logged().contains("straw-in-the-stack"));

    let (stray, end) = (unknown_secret(SecretKind::Token), key.secret.split_at(14).1);
    for (planted, found) in [
        (key.secret.as_str(), key.secret.as_str()),
        (end, key.secret.as_str()),
        (stray.as_str(), stray.as_str()),
        ("a password that nobody else has", "a password that nobody else has"),
    ] {
        let text = format!("{{\"x\":\"{planted}\"}}");
        assert_eq!(app.leak_detector.leaks_in(&text).into_iter().collect::<Vec<_>>(), [found], "{planted}");
        let bytes = text.into_bytes();
        for (sql, is_text) in [
            ("UPDATE projects SET metadata = jsonb_build_object('k', $1::text)", true),
            ("UPDATE sessions SET secret_hash = $1", false),
        ] {
            let mut planting = sqlx::query(sql);
            planting = if is_text { planting.bind(planted) } else { planting.bind(&bytes) };
            planting.execute(&app.db).await.unwrap();
            assert_eq!(app.leak_detector.leaks().in_database.into_iter().collect::<Vec<_>>(), [found], "{sql}");
            sqlx::query("UPDATE projects SET metadata = '{}'").execute(&app.db).await.unwrap();
            sqlx::query("UPDATE sessions SET secret_hash = ''").execute(&app.db).await.unwrap();
        }
    }
}
