//! Filters that cannot match anything are rejected with the expected form, and misspellings of `project_id` are
//! reported.

use axum::http::Method;
use cloudapi::server::routes;
use serde_json::{Value, json};

use super::{members, operations, parameters, path_of, send};
use crate::support::{Identity, TestApp};

#[tokio::test]
async fn every_list_rejects_filters_that_cannot_match_with_the_expected_form() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut tried = 0;
    for operation in operations(&routes::table()).filter(|operation| operation.method == Method::GET) {
        // Projects are looked up, cursors have their own error, and any text can be a part of a name or of an address.
        let is_free = |name: &str| matches!(name, "project_id" | "cursor" | "name" | "email");
        for (name, schema) in parameters(operation).filter(|(name, _)| !is_free(name)) {
            let says_what_fits = ["enum", "pattern", "format"].iter().any(|rule| schema.get(rule).is_some())
                || schema["type"] != "string";
            assert!(says_what_fits, "{name} of {} accepts any text: restrict its schema", operation.path);
            for text in ["ada@example.com", "no!such!thing", "%C3%A9", "key_", "proj_8F2C4", "", "-1"] {
                let path = format!("{}?{name}={text}", path_of(operation));
                let problem = send(&owner, &key, operation, &path, None).await.problem(400, "invalid_parameter");
                assert_eq!(problem["errors"][0]["parameter"], name, "{path}: {problem}");
                let detail = problem["detail"].as_str().unwrap();
                let is_helpful =
                    ["such as", "write it like", "use one of", "did you mean", "must be", "must not", "must have"];
                assert!(is_helpful.iter().any(|word| detail.contains(word)), "{path}: {detail}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "only {tried}");
}

#[tokio::test]
async fn filter_with_an_id_of_another_type_is_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let project = &owner.project;
    for (path, parameter, expected) in [
        (format!("/v1/audit-logs?project_id={project}&actor=proj_8f2c4"), "actor", "usr_8f2"),
        (format!("/v1/audit-logs?project_id={project}&actor=sess_5b1"), "actor", "usr_8f2"),
        (format!("/v1/audit-logs?project_id={project}&target=evt_4d2"), "target", "key_7d1"),
        (format!("/v1/audit-logs?project_id={project}&target=foo"), "target", "key_7d1"),
        (format!("/v1/operations?project_id={project}&resource_id=op_8c4"), "resource_id", "res_5d7"),
        (format!("/v1/resources?project_id={project}&provider=Sim"), "provider", "sim"),
        (format!("/v1/resources?project_id={project}&label=a==b"), "label", "env=ci-4711,team"),
        (format!("/v1/usage?project_id={project}&period=Nov"), "period", "'Nov' is not a month; write it like 2026-03"),
        (format!("/v1/usage/breakdown?project_id={project}&group_by=keys"), "group_by", "key,route"),
        (format!("/v1/usage/breakdown?project_id={project}&from=yesterday"), "from", "2026-03-31"),
        (format!("/v1/events?project_id={project}&type=nonsense"), "type", "key.created"),
    ] {
        let problem = owner.get(&path).await.problem(400, "invalid_parameter");
        assert_eq!(problem["errors"][0]["parameter"], parameter);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{path}: {detail}");
    }
    for actor in [owner.user_id.to_string(), "key_7d1".into(), "tok_2c9".into(), "root".into(), "deploy-bot".into()] {
        owner.get(&format!("/v1/audit-logs?project_id={project}&actor={actor}")).await.ok();
    }
    owner.get("/v1/providers?cursor=No%20name").await.problem(400, "invalid_cursor");
}

#[tokio::test]
async fn misspelled_project_id_is_reported_by_every_route_with_it_in_the_body() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let mut tried = 0;
    for operation in operations(&routes::table()) {
        if !members(operation).is_some_and(|members| members.contains_key("project_id")) {
            continue;
        }
        let path = operation.path;
        for name in ["project", "projectId", "project-id", "projct_id", "PROJECT_ID", "projectid"] {
            for body in [json!({ name: owner.project }), json!({ name: owner.project, "project_id": null })] {
                let problem = owner.post(path, body).await.problem(422, "validation_failed");
                let expected = format!("'{name}' is not a member of this request; did you mean 'project_id'?");
                let is_told =
                    |error: &Value| error["pointer"] == format!("#/{name}") && error["detail"] == expected.as_str();
                assert!(problem["errors"].as_array().unwrap().iter().any(is_told), "{path} {name}: {problem}");
            }
        }
        for body in [json!([]), json!([{ "project_id": owner.project }]), json!("proj_1"), json!(7), json!(null)] {
            let problem = owner.post(path, body.clone()).await.problem(422, "validation_failed");
            assert_eq!(
                (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
                (&json!("#"), &json!("wrong_type")),
                "{path} {body}"
            );
        }
        // A missing project is reported before other errors.
        for body in [json!({}), json!({ "project_id": null }), json!({ "nonsense": 1 }), json!({ "name": 7 })] {
            owner.post(path, body).await.problem(400, "project_required");
        }
        tried += 1;
    }
    assert!(tried >= 6, "only {tried}");
}

/// Items of all pages of a list.
async fn all_pages(who: &impl Identity, path: &str, member: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = who.get(&format!("{path}&limit=2{cursor}")).await.ok();
        found.extend(page["data"].as_array().unwrap().iter().map(|item| item[member].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn keys_tokens_and_users_are_found_by_a_part_of_their_name() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let project = &owner.project;
    for name in ["Billing service", "ci", "old billing", "100%_done", ""] {
        let key = owner.key_with(json!({ "name": name })).await;
        if name == "old billing" {
            owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        }
    }
    let soon = app.clock.now().plus(std::time::Duration::from_secs(60));
    owner.key_with(json!({ "name": "brief billing", "expires_at": soon })).await;
    for name in ["deploy", "Deploy staging", "read"] {
        let body = json!({ "project_id": project, "name": name, "scopes": ["users:read"] });
        owner.post("/v1/tokens", body).await.created();
    }
    for email in ["Grace@example.com", "alan@example.com", "grace.h@example.org"] {
        let body = json!({ "project_id": project, "email": email, "role": "viewer" });
        owner.post("/v1/users", body).await.created();
    }
    let list = async |path: &str, query: &str, member: &str| {
        all_pages(&owner, &format!("{path}?project_id={project}&{query}"), member).await
    };
    let keys = async |query: &str| list("/v1/keys", query, "name").await;
    assert_eq!(keys("name=BILLING").await, ["Billing service", "old billing", "brief billing"]);
    assert_eq!(keys("name=billing&status=active").await, ["Billing service", "brief billing"]);
    assert_eq!(keys("name=billing&status=revoked").await, ["old billing"]);
    assert_eq!(keys("name=%25_").await, ["100%_done"]);
    assert!(keys("name=nothing").await.is_empty());
    app.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(keys("name=billing&status=expired").await, ["brief billing"]);
    assert_eq!(keys("name=ci&status=expired").await, [""; 0]);
    assert_eq!(list("/v1/tokens", "name=deploy", "name").await, ["deploy", "Deploy staging"]);
    let users = async |query: &str| list("/v1/users", query, "email").await;
    assert_eq!(users("email=grace").await, ["grace@example.com", "grace.h@example.org"]);
    assert_eq!(users("email=EXAMPLE.ORG&role=viewer").await, ["grace.h@example.org"]);
    owner.get(&format!("/v1/keys?project_id={project}&name=")).await.problem(400, "invalid_parameter");
}
