//! Settings of a project, its danger zone, and new projects.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Identity, TestApp,
    browser::{Browser, hidden, text},
};

const MARKUP: &str = "\"><img src=x onerror=alert(1)>";

#[tokio::test]
async fn name_and_metadata_are_changed_unless_somebody_else_did_meanwhile() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/settings");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("value=\"A project\"") && page.contains("Danger zone"), "{page}");
    let etag = hidden(&page).into_iter().find(|(name, _)| name == "_etag").unwrap().1;
    let fields = [
        ("name", MARKUP),
        ("metadata_name", "team"),
        ("metadata_value", "payments"),
        ("metadata_name", "<b>"),
        ("metadata_value", MARKUP),
        ("metadata_name", ""),
        ("metadata_value", ""),
    ];
    let reply = browser.submit(&path, &fields).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())), "{}", text(&reply));
    let project = owner.get(&format!("/v1/projects/{}", owner.project)).await.ok();
    assert_eq!(
        (&project["name"], &project["metadata"]),
        (&json!(MARKUP), &json!({ "team": "payments", "<b>": MARKUP }))
    );
    for path in ["/settings", "", "/usage", "/settings/archive"] {
        let page = text(&browser.get(&browser.path(path)).await);
        assert!(!page.contains("<img src=x"), "{path}: {page}");
    }
    let page = text(&browser.get(&path).await);
    assert!(page.contains("value=\"payments\"") && page.contains("value=\"&#60;b&#62;\""), "{page}");

    // The form of another tab is older than the change.
    let late = [
        ("_etag", etag.as_str()),
        ("_once", "late"),
        ("name", "late"),
        ("metadata_name", "x"),
        ("metadata_value", "1"),
    ];
    let reply = browser.post(&path, &late).await;
    let page = text(&reply);
    assert!(reply.status == 412 && page.contains("Somebody else changed the project meanwhile"), "{page}");
    assert!(
        page.contains("value=\"late\"") && page.contains("value=\"x\"") && page.contains("<ins>late</ins>"),
        "{page}"
    );
    assert!(page.contains("<del>payments</del>"), "{page}");
    assert_eq!(owner.get(&format!("/v1/projects/{}", owner.project)).await.ok()["name"], MARKUP);
    // The form has the current state now, so that it can be saved.
    let mut again = late;
    let current = hidden(&page);
    let value = |wanted: &str| current.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
    let (etag, once) = (value("_etag"), value("_once"));
    (again[0].1, again[1].1) = (etag.as_str(), once.as_str());
    assert_eq!(browser.post(&path, &again).await.status, 303);
    // A row is removed by clearing it.
    let reply = browser.submit(&path, &[("name", "B"), ("metadata_name", ""), ("metadata_value", "")]).await;
    assert_eq!(reply.status, 303);
    assert_eq!(owner.get(&format!("/v1/projects/{}", owner.project)).await.ok()["metadata"], json!({}));
}

#[tokio::test]
async fn errors_are_at_their_fields() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let (long, value) = ("n".repeat(101), "v".repeat(501));
    for path in [browser.path("/settings"), "/console/projects/new".to_owned()] {
        let reply = browser.submit(&path, &[("name", &long)]).await;
        let page = text(&reply);
        assert!(reply.status == 422 && page.contains("id=\"e-name\"") && page.contains(&long), "{page}");
        for rows in [
            [("metadata_name", ""), ("metadata_value", "no name")].as_slice(),
            &[("metadata_name", "a"), ("metadata_value", "1"), ("metadata_name", "a"), ("metadata_value", "2")],
            &[("metadata_name", "a"), ("metadata_value", &value)],
        ] {
            let fields: Vec<(&str, &str)> = [("name", "A")].into_iter().chain(rows.iter().copied()).collect();
            let reply = browser.submit(&path, &fields).await;
            let page = text(&reply);
            assert!(reply.status == 422 && page.contains("id=\"e-metadata\""), "{path} {rows:?}: {page}");
            assert!(page.contains(&format!("value=\"{}\"", rows[1].1)), "what was typed is kept");
        }
    }
}

#[tokio::test]
async fn project_is_suspended_resumed_archived_and_deleted_by_its_name() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner.key().await;
    let list = format!("/v1/keys?project_id={}", owner.project);
    let settings = browser.path("/settings");
    let step = async |verb: &str, fields: &[(&str, &str)]| browser.submit(&format!("{settings}/{verb}"), fields).await;

    let page = text(&browser.get(&format!("{settings}/suspend")).await);
    assert!(page.contains("1 active key, and all tokens, stop working"), "{page}");
    let reply = step("suspend", &[("confirmation", "a project")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the name of the project"));
    key.get(&list).await.ok();
    let reply = step("suspend", &[("confirmation", "A project")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(settings.as_str())), "{}", text(&reply));
    key.get(&list).await.problem(403, "project_suspended");
    let page = text(&browser.get(&settings).await);
    assert!(page.contains("is suspended") && page.contains("/settings/resume") && !page.contains("Save"), "{page}");

    assert_eq!(step("resume", &[]).await.status, 303);
    key.get(&list).await.ok();
    // An active project is not deleted.
    assert!(text(&browser.get(&format!("{settings}/delete")).await).contains("Only an archived project"));
    let reply = browser.post(&format!("{settings}/delete"), &[("confirmation", "A project")]).await;
    assert!(reply.status == 422 && text(&reply).contains("Only an archived project"), "{}", text(&reply));

    assert_eq!(step("archive", &[("confirmation", "A project")]).await.status, 303);
    key.get(&list).await.problem(403, "project_archived");
    // An archived project cannot be suspended.
    let reply = browser.post(&format!("{settings}/suspend"), &[("confirmation", "A project")]).await;
    assert!(reply.status == 422 && text(&reply).contains("resume it before you suspend it"), "{}", text(&reply));
    assert!(text(&browser.get(&format!("{settings}/delete")).await).contains("cannot be undone"));
    assert_eq!(step("delete", &[("confirmation", "no")]).await.status, 422);
    let reply = step("delete", &[("confirmation", "A project")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console")), "{}", text(&reply));
    let page = text(&browser.get("/console").await);
    assert!(page.contains("“A project” is deleted") && page.contains("No projects yet"), "{page}");
    assert_eq!(browser.get(&settings).await.status, 404);
}

#[tokio::test]
async fn roles_see_what_they_may_do() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let admin = Browser::member(&owner, Role::Admin).await;
    let page = text(&admin.get(&admin.path("/settings")).await);
    assert!(page.contains("Save") && !page.contains("Danger zone"), "{page}");
    let viewer = Browser::member(&owner, Role::Viewer).await;
    let page = text(&viewer.get(&viewer.path("/settings")).await);
    assert!(!page.contains("Save") && page.contains("Owners and admins change the settings"), "{page}");
    for browser in [&admin, &viewer] {
        for verb in ["suspend", "archive"] {
            let path = browser.path(&format!("/settings/{verb}"));
            let reply = browser.submit(&path, &[("confirmation", "A project")]).await;
            assert_eq!(reply.status, 403, "{verb}: {}", text(&reply));
        }
    }
    let reply = viewer.submit(&viewer.path("/settings"), &[("name", "mine")]).await;
    assert_eq!(reply.status, 403);
    assert_eq!(owner.get(&format!("/v1/projects/{}", owner.project)).await.ok()["name"], "A project");
}

#[tokio::test]
async fn project_is_created_and_says_what_to_do_first() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let browser = Browser::of(&user).await;
    let page = text(&browser.get("/console").await);
    assert!(page.contains("No projects yet") && page.contains("href=\"/console/projects/new\""), "{page}");
    let fields = [("name", "Fresh <b>"), ("metadata_name", "team"), ("metadata_value", "a")];
    let reply = browser.submit("/console/projects/new", &fields).await;
    let path = reply.header("location").unwrap().to_owned();
    assert!(reply.status == 303 && path.starts_with("/console/projects/proj_"), "{path}");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("Fresh &#60;b&#62;") && page.contains("You own it"), "{page}");
    assert!(page.contains("First steps") && page.contains("/keys/new") && page.contains("curl "), "{page}");
    browser.submit(&format!("{path}/keys/new"), &[("preset", "read"), ("expires", "30")]).await;
    assert!(!text(&browser.get(&path).await).contains("First steps"));
}
