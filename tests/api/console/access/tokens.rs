//! Pages of tokens.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Bearer, Identity, TestApp,
    browser::{Browser, text},
    trail::all_sealed,
};

fn secret(page: &str) -> Option<String> {
    page.split('"').find(|part| part.starts_with("cap_") && part.len() > 40).map(str::to_owned)
}

#[tokio::test]
async fn token_is_created_used_and_revoked() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let fields = [("name", "nightly report"), ("preset", "read"), ("expires_in", "3600")];
    let page = text(&browser.submit(&browser.path("/tokens/new"), &fields).await);
    let token = Bearer { app: &app, secret: secret(&page).unwrap_or_else(|| panic!("{page}")) };
    let project = format!("/v1/projects/{}", owner.project);
    token.get(&project).await.ok();
    app.flush_usage().await;
    // The trail says who issued the token.
    all_sealed(&app.db).await;
    let listed = owner.get(&format!("/v1/tokens?project_id={}", owner.project)).await.ok();
    let path = browser.path(&format!("/tokens/{}", listed["data"][0]["id"].as_str().unwrap()));
    assert!(page.contains(&format!("data-shown-path=\"{path}\"")), "a reload does not submit the form again");
    let page = text(&browser.get(&path).await);
    for shown in ["nightly report", &owner.email, "projects:read", "GET /v1/projects/{project_id}"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains(&token.secret));

    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "nightly")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the name of the token"));
    token.get(&project).await.ok();
    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "nightly report")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())));
    token.get(&project).await.problem(401, "token_revoked");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("Revoked") && !page.contains("/revoke"), "{page}");
}

#[tokio::test]
async fn errors_of_a_token_are_at_their_fields() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let fields = [("name", ""), ("preset", "custom"), ("expires_in", "many")];
    let reply = browser.submit(&browser.path("/tokens/new"), &fields).await;
    let page = text(&reply);
    assert_eq!(reply.status, 422);
    for error in ["id=\"e-name\"", "id=\"e-expires_in\"", "href=\"#f-scopes\""] {
        assert!(page.contains(error), "{error} in {page}");
    }
}

#[tokio::test]
async fn chain_of_issuers_is_shown_and_counted_before_a_revocation() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner.key_with(json!({ "name": "pipeline", "scopes": ["tokens:write", "users:read"] })).await;
    let body = |name: &str| json!({ "name": name, "scopes": ["tokens:write", "users:read"] });
    let middle = key.post("/v1/tokens", body("middle")).await.created();
    let middle_id = middle["id"].as_str().unwrap();
    let issuer = Bearer { app: &app, secret: middle["token"].as_str().unwrap().into() };
    let leaf = issuer.post("/v1/tokens", body("leaf")).await.created();
    key.post("/v1/tokens", body("second")).await.created();

    let page = text(&browser.get(&browser.path(&format!("/tokens/{}", leaf["id"].as_str().unwrap()))).await);
    let (key_at, middle_at) = (page.find("pipeline").unwrap(), page.find(">middle<").unwrap());
    assert!(key_at < middle_at, "the chain begins with the key: {page}");
    assert!(page.contains(&browser.path(&format!("/keys/{}", key.id))));
    let page = text(&browser.get(&browser.path(&format!("/tokens/{middle_id}"))).await);
    assert!(page.contains(">leaf<"), "{page}");
    let page = text(&browser.get(&browser.path(&format!("/tokens/{middle_id}/revoke"))).await);
    assert!(page.contains("too (1 active token)."), "{page}");

    let page = text(&browser.get(&browser.path(&format!("/keys/{}", key.id))).await);
    assert!(page.contains(">middle<") && page.contains(">second<") && !page.contains(">leaf<"), "{page}");
    let page = text(&browser.get(&browser.path(&format!("/keys/{}/revoke", key.id))).await);
    assert!(page.contains("too (2 active tokens)."), "{page}");
}

#[tokio::test]
async fn tokens_are_filtered_and_paged() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    assert!(text(&browser.get(&browser.path("/tokens")).await).contains("No tokens yet"));
    let key = owner.key_with(json!({ "name": "pipeline", "scopes": ["tokens:write"] })).await;
    for number in 0..27 {
        let body = json!({ "name": format!("token-{number:02}"), "scopes": ["tokens:write"] });
        key.post("/v1/tokens", body).await.created();
    }
    owner.token(&["users:read"]).await;
    let page = text(&browser.get(&browser.path("/tokens")).await);
    assert!(page.contains("token-26") && !page.contains("token-02"), "the newest are first");
    assert!(page.contains("pipeline") && page.contains(&owner.email), "issuers have names: {page}");
    let next = page.split('"').find(|part| part.contains("cursor=")).unwrap();
    let page = text(&browser.get(&next.replace("&#38;", "&")).await);
    assert!(page.contains("token-01") && !page.contains("token-26"), "{page}");
    let page = text(&browser.get(&browser.path("/tokens?name=TOKEN-07&status=active")).await);
    assert!(page.contains("token-07") && !page.contains("token-08"));
    let page = text(&browser.get(&browser.path(&format!("/tokens?issuer={}", owner.user_id))).await);
    assert!(page.contains("a token") && !page.contains("token-0"), "{page}");
    let page = text(&browser.get(&browser.path("/tokens?status=expired")).await);
    assert!(page.contains("No token matches"), "{page}");
}

#[tokio::test]
async fn viewer_sees_tokens_but_no_way_to_change_them() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let token = owner.token(&["users:read"]).await;
    let browser = Browser::member(&owner, Role::Viewer).await;
    let page = text(&browser.get(&browser.path("/tokens")).await);
    assert!(page.contains("a token") && !page.contains("Create a token"), "{page}");
    let path = browser.path(&format!("/tokens/{}", token.id));
    assert!(!text(&browser.get(&path).await).contains("/revoke"));
    let reply = browser.submit(&format!("{path}/revoke"), &[("confirmation", "a token")]).await;
    assert_eq!(reply.status, 403);
    let fields = [("name", "n"), ("preset", "read"), ("expires_in", "3600")];
    assert_eq!(browser.submit(&browser.path("/tokens/new"), &fields).await.status, 403);
    let foreign = app.owner().await.token(&["users:read"]).await;
    assert_eq!(browser.get(&browser.path(&format!("/tokens/{}", foreign.id))).await.status, 404);
}
