//! Pages of keys.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Bearer, Identity, TestApp,
    browser::{Browser, hidden, text},
};

fn secret(page: &str) -> Option<String> {
    page.split('"').find(|part| part.starts_with("sk_live_")).map(str::to_owned)
}

#[tokio::test]
async fn key_is_created_used_rotated_and_revoked() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let reply =
        browser.submit(&browser.path("/keys/new"), &[("name", "billing"), ("preset", "ci"), ("expires", "30")]).await;
    let page = text(&reply);
    let first = Bearer { app: &app, secret: secret(&page).unwrap_or_else(|| panic!("{page}")) };
    let project = format!("/v1/projects/{}", owner.project);
    first.get(&project).await.ok();
    let id = owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok()["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = browser.path(&format!("/keys/{id}"));
    assert!(page.contains(&format!("data-shown-path=\"{path}\"")), "a reload does not submit the form again");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("billing") && page.contains("tokens:write") && !page.contains(&first.secret), "{page}");

    let page = text(&browser.submit(&format!("{path}/rotate"), &[("overlap_seconds", "3600")]).await);
    let second = Bearer { app: &app, secret: secret(&page).unwrap_or_else(|| panic!("{page}")) };
    first.get(&project).await.ok();
    second.get(&project).await.ok();
    assert!(text(&browser.get(&path).await).contains("Two secrets work"));

    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "Billing")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the name of the key"));
    second.get(&project).await.ok();
    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "billing")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())));
    first.get(&project).await.problem(401, "token_revoked");
    second.get(&project).await.problem(401, "token_revoked");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("is revoked") && page.contains("Revoked"), "{page}");
    assert!(!text(&browser.get(&path).await).contains("no longer work on any server"), "the message is shown once");
}

#[tokio::test]
async fn list_is_filtered_and_paged() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    assert!(text(&browser.get(&browser.path("/keys")).await).contains("No keys yet"));
    for number in 0..27 {
        owner.key_with(json!({ "name": format!("key-{number:02}") })).await;
    }
    let page = text(&browser.get(&browser.path("/keys")).await);
    assert!(page.contains("key-26") && !page.contains("key-01"), "the newest are first");
    let next = page.split('"').find(|part| part.contains("cursor=")).unwrap();
    let page = text(&browser.get(&next.replace("&#38;", "&")).await);
    assert!(page.contains("key-01") && !page.contains("key-26") && page.contains("First page"));
    let page = text(&browser.get(&browser.path("/keys?name=KEY-07")).await);
    assert!(page.contains("key-07") && !page.contains("key-08"));
    let page = text(&browser.get(&browser.path("/keys?status=revoked")).await);
    assert!(page.contains("No key matches") && page.contains("Show all keys"));
}

#[tokio::test]
async fn page_says_which_calls_it_stands_for() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let page = text(&browser.get(&browser.path("/keys?status=active")).await);
    let line =
        format!("curl &#39;{}/v1/keys?project_id={}&#38;status=active&#38;order=desc&#39;", app.url, owner.project);
    assert!(page.contains(&line), "{page}");
    let page = text(&browser.get(&browser.path("/keys/new")).await);
    assert!(page.contains("POST /v1/keys") && page.contains("Idempotency-Key: $(uuidgen)"), "{page}");
    assert!(!page.contains("cbs_"));
}

#[tokio::test]
async fn viewer_sees_keys_but_no_way_to_change_them() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "name": "seen" })).await;
    let browser = Browser::member(&owner, Role::Viewer).await;
    let page = text(&browser.get(&browser.path("/keys")).await);
    assert!(page.contains("seen") && !page.contains("Create a key"), "{page}");
    let path = browser.path(&format!("/keys/{}", key.id));
    assert!(!text(&browser.get(&path).await).contains("/revoke"));
    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "seen")]).await;
    assert!(reply.status == 403 && text(&reply).contains("Ask an owner or an admin"), "{}", text(&reply));
}

#[tokio::test]
async fn key_of_another_project_is_not_found() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let foreign = app.owner().await.key().await;
    for path in [format!("/keys/{}", foreign.id), "/keys/key_1".into(), "/keys/nonsense".into()] {
        let reply = browser.get(&browser.path(&path)).await;
        assert_eq!(reply.status, 404, "{path}");
    }
}

#[tokio::test]
async fn key_is_changed_unless_somebody_else_changed_it_meanwhile() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner
        .key_with(json!({ "name": "before", "scopes": ["keys:read", "users:read"], "allowed_ips": ["10.0.0.0/8"] }))
        .await;
    let path = browser.path(&format!("/keys/{}", key.id));
    let page = text(&browser.get(&format!("{path}/edit")).await);
    for shown in ["value=\"before\"", "value=\"keys:read\" checked", "10.0.0.0/8", "Unchanged (never)"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let etag = hidden(&page).into_iter().find(|(name, _)| name == "_etag").unwrap().1;
    let fields =
        [("name", "after"), ("preset", "custom"), ("scopes", "keys:read"), ("expires", "keep"), ("allowed_ips", "")];
    let reply = browser.submit(&format!("{path}/edit"), &fields).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())), "{}", text(&reply));
    let changed = owner.get(&format!("/v1/keys/{}", key.id)).await.ok();
    assert_eq!((&changed["name"], &changed["scopes"]), (&json!("after"), &json!(["keys:read"])));
    assert_eq!((&changed["allowed_ips"], &changed["expires_at"]), (&json!([]), &json!(null)));

    // The form of another tab is older than the change.
    let mut late = vec![("_etag", etag.as_str()), ("_once", "late")];
    late.extend([("name", "late & lost"), ("preset", "custom"), ("scopes", "users:read"), ("expires", "keep")]);
    let reply = browser.post(&format!("{path}/edit"), &late).await;
    let page = text(&reply);
    assert!(reply.status == 412 && page.contains("Somebody changed it"), "{page}");
    let typed = hidden(&page).into_iter().find(|(name, _)| name == "_typed").unwrap().1;
    let page = text(&browser.post(&format!("{path}/edit"), &[("_typed", &typed)]).await);
    let current = hidden(&page).into_iter().find(|(name, _)| name == "_etag").unwrap().1;
    assert!(page.contains("late &#38; lost") && current != etag, "{page}");
}
