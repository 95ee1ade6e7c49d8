//! Forms: errors at their fields, and one write for each form.

use serde_json::json;

use super::{MARKUP, pages_of};
use crate::support::{
    Identity, TestApp,
    browser::{Browser, PASSWORD, encoded, hidden, text},
};

#[tokio::test]
async fn errors_are_at_their_fields_and_what_was_typed_is_kept() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let long = "n".repeat(101);
    let fields = [
        ("name", long.as_str()),
        ("preset", "custom"),
        ("expires", "date"),
        ("expires_on", "2020-01-01"),
        ("allowed_ips", "203.0.113.0/24\nnot-a-network"),
        ("rate_requests", "many"),
    ];
    let reply = browser.submit(&browser.path("/keys/new"), &fields).await;
    assert_eq!(reply.status, 422);
    let page = text(&reply);
    for id in ["e-name", "e-allowed_ips", "e-rate_requests"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "no error {id} in {page}");
    }
    assert!(page.contains("Line 2: "), "{page}");
    assert!(page.contains(&long) && page.contains("not-a-network") && page.contains("value=\"many\""));
    assert!(page.contains("role=\"alert\"") && page.contains("href=\"#f-name\""));
    assert_eq!(browser.get(&browser.path("/keys")).await.status, 200);
}

#[tokio::test]
async fn double_click_creates_one_key_and_a_later_reload_does_not_show_its_secret() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/keys/new");
    let page = text(&browser.get(&path).await);
    let once = hidden(&page).into_iter().find(|(name, _)| name == "_once").unwrap().1;
    let fields = [("_once", once.as_str()), ("name", "once"), ("preset", "read"), ("expires", "90")];
    let first = text(&browser.post(&path, &fields).await);
    let second = text(&browser.post(&path, &fields).await);
    let secret = |page: &str| page.split('"').find(|part| part.starts_with("sk_live_")).map(str::to_owned);
    assert!(secret(&first).is_some(), "{first}");
    assert_eq!(secret(&first), secret(&second), "the browser discards the first response to a double click");
    let keys = owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);

    // Another server did not show the secret, as this one after some time.
    let peer = app.start_peer(Default::default()).await;
    let request = peer.http.post(format!("{}{path}", peer.url)).header("sec-fetch-site", "same-origin");
    let (_, value) = browser.session_cookie().unwrap();
    let port = peer.url.rsplit(':').next().unwrap();
    let request = request.header("cookie", format!("cloudapi-{port}={value}"));
    let page = text(&browser.send(request.body(encoded(&fields))).await);
    assert!(secret(&page).is_none() && page.contains("The secret was shown before"), "{page}");
}

#[tokio::test]
async fn names_are_text_and_never_markup_on_every_page() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    app.set_password(&owner, PASSWORD).await;
    let browser = Browser { project: owner.project.clone(), ..Browser::new(&app) };
    // The user agent is shown, too.
    let body = encoded(&[("email", &owner.email), ("password", PASSWORD)]);
    let request = browser.request("POST", "/console/sign-in").header("sec-fetch-site", "same-origin");
    assert_eq!(browser.send(request.header("user-agent", MARKUP).body(body)).await.status, 303);
    let project = format!("/v1/projects/{}", owner.project);
    owner.patch(&project, json!({ "name": MARKUP })).await.ok();
    let invited = json!({ "project_id": owner.project, "email": "o'neil&co@example.com", "role": "viewer" });
    owner.post("/v1/users", invited).await.created();
    let mut paths = pages_of(&owner).await;
    let query = "?name=%3Cscript%3Ealert(1)%22&status=%22%3E%3Cscript%3E&cursor=%22%3E%3Cscript%3E&email=%3Cscript%3E&issuer=%22%3E%3Cscript%3E";
    paths.extend(paths.clone().iter().map(|path| format!("{path}{query}")));
    paths.extend([
        browser.path("/keys/%3Cscript%3E"),
        "/console/%3Cscript%3Ealert(1)".into(),
        "/console/sign-in?return=%22%3E%3Cscript%3E&link=%22%3E%3Cscript%3E".into(),
        "/console/invitation?invitation=%22%3E%3Cscript%3E".into(),
    ]);
    let mut shown = 0;
    for path in paths {
        let page = text(&browser.get(&path).await);
        for markup in ["<script>", "<img src=x", "<b>k", "<i>v", "\"'>"] {
            assert!(!page.contains(markup), "{path} contains {markup}");
        }
        shown += usize::from(page.contains("&#60;script&#62;alert(1)"));
    }
    assert!(shown > 15, "{shown} pages show a name");
}
