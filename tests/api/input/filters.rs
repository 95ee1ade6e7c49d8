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
        // Projects are looked up, and cursors have their own error.
        for (name, schema) in parameters(operation).filter(|(name, _)| !matches!(*name, "project_id" | "cursor")) {
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
