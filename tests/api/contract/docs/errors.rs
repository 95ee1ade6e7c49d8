//! The pages of errors, and the examples on them.

use cloudapi::{
    base::{
        error::Code,
        identity::{role::Role, secret::SecretKind},
    },
    http::{
        catalog::{self, entry},
        response::{html::escape, problem::Problem},
    },
};
use serde_json::{Value, json};

use super::page;
use crate::support::{
    Bearer, Identity, Reply, Session, TestApp,
    app::{PUBLIC_URL, unknown_secret},
};

#[tokio::test]
async fn every_error_code_has_a_page_with_meaning_remedy_and_example() {
    let app = TestApp::shared().await;
    let table = page(&app, "/docs/errors").await;
    for &code in Code::ALL {
        let page = page(&app, &format!("/docs/errors/{code}")).await;
        let entry = entry(code);
        let type_ = format!("\"type\": \"{PUBLIC_URL}/docs/errors/{code}\"");
        let detail = format!("\"detail\": {}", json!(entry.example));
        for part in [entry.title, entry.meaning, entry.remedy, &entry.status.to_string(), &type_, &detail] {
            assert!(page.contains(&escape(part)), "{code}: no {part}");
        }
        assert!(table.contains(&format!("href=\"/docs/errors/{code}\"")), "{code}");
    }
}

#[tokio::test]
async fn unknown_error_code_or_asset_is_not_found_and_typo_has_suggestion() {
    let app = TestApp::shared().await;
    let problem = app.anonymous().get("/docs/errors/validation_faild").await.problem(404, "not_found");
    assert_eq!(problem["detail"], "'validation_faild' is not an error code; did you mean 'validation_failed'?");
    for path in [
        "/docs/errors/none-such",
        "/docs/errors/%FF",
        "/docs/errors/%3Cb%3E",
        "/docs/assets/index.html",
        "/docs/assets/..%2Fx",
    ] {
        app.anonymous().get(path).await.problem(404, "not_found");
    }
    for path in ["/docs/", "/docs/errors/", "/docs/assets", "/docs/assets/", "/docs/errors/a/b"] {
        app.anonymous().get(path).await.problem(404, "route_not_found");
    }
}

#[tokio::test]
async fn problem_type_is_the_url_of_its_page() {
    let app = TestApp::shared().await;
    let problem = app.anonymous().get("/v1/projects").await.problem(401, "missing_credentials");
    let path = problem["type"].as_str().unwrap().strip_prefix(PUBLIC_URL).unwrap();
    assert!(page(&app, path).await.contains("Missing credentials"));
}

#[tokio::test]
async fn error_examples_equal_server_responses() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let nobody = app.anonymous();
    let narrow = owner.key_with(json!({ "scopes": ["tokens:write", "users:read"] })).await;
    let narrower = owner.key_with(json!({ "scopes": ["tokens:write"] })).await;
    let revoked = owner.key().await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let stranger = Bearer { app: &app, secret: unknown_secret(SecretKind::Key) };
    let token = |scopes: Value| json!({ "name": "ci-token", "scopes": scopes });
    let json_body = |body: &str| {
        owner.request("POST", "/v1/projects").header("content-type", "application/json").body(body.to_owned()).send()
    };
    let twice = key.request("GET", "/v1/projects").header("authorization", &format!("Bearer {}", key.secret));
    let replies = [
        (Code::MalformedJson, json_body("{").await),
        (Code::MalformedRequest, twice.send().await),
        (Code::InvalidParameter, key.get("/v1/projects?limit=101").await),
        (Code::UnknownParameter, key.get("/v1/projects?limt=5").await),
        (Code::DuplicateParameter, key.get("/v1/projects?limit=5&limit=5").await),
        (Code::InvalidCursor, key.get("/v1/projects?cursor=usr_8f2").await),
        (Code::UnexpectedBody, key.request("GET", "/v1/projects").body("{}").send().await),
        (Code::ProjectRequired, owner.get("/v1/keys").await),
        (Code::MissingCredentials, nobody.get("/v1/projects").await),
        (Code::InvalidToken, stranger.get("/v1/projects").await),
        (Code::TokenRevoked, revoked.get("/v1/projects").await),
        (
            Code::InvalidCredentials,
            nobody.post("/v1/sessions", json!({ "email": "ada@example.com", "password": "guess" })).await,
        ),
        (Code::InsufficientScope, narrower.get("/v1/users").await),
        (Code::CredentialKindNotAllowed, key.post("/v1/keys", json!({})).await),
        (Code::ScopeEscalation, narrow.post("/v1/tokens", token(json!(["users:write"]))).await),
        (Code::NotFound, key.get("/v1/keys/key_7d1").await),
        (Code::RouteNotFound, nobody.get("/v1/nothing").await),
        (Code::MethodNotAllowed, nobody.request("PUT", "/v1/projects").send().await),
        (Code::PayloadTooLarge, json_body(&" ".repeat(65537)).await),
        (Code::UriTooLong, nobody.get(&format!("/healthz?{}", "a".repeat(9000))).await),
        (Code::UnsupportedMediaType, owner.request("POST", "/v1/projects").body("{}").send().await),
        (Code::HeadersTooLarge, nobody.request("GET", "/healthz").header("x-long", &"a".repeat(17000)).send().await),
        (Code::ValidationFailed, key.post("/v1/tokens", token(json!(["usage:read", "users:raed"]))).await),
    ];
    for (code, reply) in replies {
        assert_is_the_example(code, &reply);
        let described =
            Problem::new(&catalog::example(code), reply["request_id"].as_str().unwrap().parse().unwrap(), PUBLIC_URL);
        assert_eq!(&serde_json::to_value(described).unwrap(), reply.json(), "{code}");
    }
}

#[track_caller]
fn assert_is_the_example(code: Code, reply: &Reply) {
    assert_eq!(reply["code"], code.as_str(), "{}", reply.json());
    assert_eq!(reply["detail"], entry(code).example, "{code}");
}

#[tokio::test]
async fn error_examples_about_states_and_members_equal_server_responses() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    let key = owner.key().await;
    let project = format!("/v1/projects/{}", owner.project);
    let person = |user: &Session<'_>| format!("/v1/users/{}?project_id={}", user.user_id, owner.project);
    let invitation = json!({ "project_id": owner.project, "email": "ada@example.com", "role": "member" });

    let reply = admin.patch(&person(&admin), json!({ "role": "owner" })).await;
    assert_is_the_example(Code::RoleEscalation, &reply);
    let reply = owner.patch(&person(&owner), json!({ "role": "member" })).await;
    assert_is_the_example(Code::LastOwner, &reply);
    owner.post("/v1/users", invitation.clone()).await.created();
    assert_is_the_example(Code::AlreadyMember, &owner.post("/v1/users", invitation).await);
    let passwords = json!({ "current_password": "a guess", "new_password": "a long enough one" });
    assert_is_the_example(Code::InvalidCurrentPassword, &owner.post("/v1/users/me/password", passwords).await);

    let revoked = owner.key().await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let reply = owner.patch(&format!("/v1/keys/{}", revoked.id), json!({ "name": "n" })).await;
    assert_is_the_example(Code::KeyRevoked, &reply);

    owner.patch(&project, json!({ "name": "n" })).await.ok();
    let reply = owner.request("PATCH", &project).header("if-match", "\"1\"").json(&json!({ "name": "m" })).send().await;
    assert_is_the_example(Code::PreconditionFailed, &reply);

    // These details contain the project's ID, which differs from the example's.
    let about = |code: Code, reply: Reply| {
        let detail = reply["detail"].as_str().unwrap().replace(&owner.project, "proj_8f2c4");
        assert_eq!((reply["code"].as_str(), detail.as_str()), (Some(code.as_str()), entry(code).example));
    };
    about(Code::ProjectNotArchived, owner.delete(&project).await);
    owner.request("POST", &format!("{project}/suspend")).send().await.ok();
    about(Code::ProjectSuspended, key.get("/v1/projects").await);
    about(Code::ProjectNotActive, owner.patch(&project, json!({ "name": "n" })).await);
    owner.request("POST", &format!("{project}/archive")).send().await.ok();
    about(Code::ProjectArchived, key.get("/v1/projects").await);
    about(Code::InvalidState, owner.request("POST", &format!("{project}/suspend")).send().await);
}
