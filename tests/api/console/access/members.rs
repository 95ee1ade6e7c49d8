//! Pages of members, and the invitation page.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Identity, TestApp,
    browser::{Browser, PASSWORD, hidden, text, unescaped},
    reply::Reply,
};

const EMAIL: &str = "grace@example.com";

/// Path of the invitation page, as the link on this page says.
fn link(page: &str) -> String {
    let found = page.split('"').find(|part| part.contains("/console/invitation?invitation=inv_"));
    let url = unescaped(found.unwrap_or_else(|| panic!("no link in {page}")));
    url[url.find("/console").unwrap()..].to_owned()
}

async fn invite(browser: &Browser<'_>, email: &str, role: &str) -> String {
    let reply = browser.submit(&browser.path("/members/invite"), &[("email", email), ("role", role)]).await;
    assert_eq!(reply.status, 200, "{}", text(&reply));
    link(&text(&reply))
}

async fn accept(browser: &Browser<'_>, path: &str, password: &str) -> Reply {
    browser.app.leak_detector.record(password);
    browser.submit(path, &[("password", password)]).await
}

#[tokio::test]
async fn person_is_invited_joins_in_another_browser_gets_a_role_and_is_removed() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let reply = browser.submit(&browser.path("/members/invite"), &[("email", EMAIL), ("role", "member")]).await;
    let page = text(&reply);
    assert!(page.contains("within 7 days") && page.contains(EMAIL), "{page}");
    let path = link(&page);
    let listed = text(&browser.get(&browser.path("/members?email=GRACE")).await);
    let is_listed = |email: &str| listed.contains(&format!(">{email}</a>"));
    assert!(is_listed(EMAIL) && !is_listed(&owner.email), "{listed}");
    assert!(listed.contains("Invited") && !listed.contains("inv_"), "{listed}");

    let other = Browser::new(&app);
    let page = text(&other.get(&path).await);
    assert!(page.contains("autocomplete=\"new-password\"") && page.contains("Accept the invitation"), "{page}");
    let reply = accept(&other, &path, "short").await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-password\""), "{}", text(&reply));
    let reply = accept(&other, &path, PASSWORD).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console")), "{}", text(&reply));
    assert_eq!(other.get("/console").await.header("location"), Some(browser.path("").as_str()));
    assert_eq!(other.get(&browser.path("/keys")).await.status, 200);
    // The link works once.
    let reply = accept(&Browser::new(&app), &path, PASSWORD).await;
    assert!(reply.status == 422 && text(&reply).contains("was accepted or withdrawn"), "{}", text(&reply));

    let page = text(&browser.get(&browser.path("/members?email=grace")).await);
    let member = page.split('"').find(|part| part.contains("/members/usr_")).unwrap().to_owned();
    assert!(page.contains("Active"), "{page}");
    let page = text(&browser.get(&format!("{member}/role")).await);
    assert!(page.contains("Also manages keys, webhooks and members") && page.contains("value=\"member\" checked"));
    let reply = browser.submit(&format!("{member}/role"), &[("role", "viewer")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(member.as_str())), "{}", text(&reply));
    assert!(text(&browser.get(&member).await).contains("Sees everything except the audit log."));
    assert!(!text(&other.get(&browser.path("/tokens")).await).contains("Create a token"));

    let reply = browser.submit(&format!("{member}/remove"), &[("confirmation", "grace")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the email address"), "{}", text(&reply));
    let reply = browser.submit(&format!("{member}/remove"), &[("confirmation", "Grace@example.com")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(browser.path("/members").as_str())));
    assert_eq!(other.get(&browser.path("/keys")).await.status, 404);
}

#[tokio::test]
async fn invitation_is_withdrawn_and_its_link_stops_working() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = invite(&browser, EMAIL, "viewer").await;
    let page = text(&browser.get(&browser.path("/members?email=grace")).await);
    let member = page.split('"').find(|part| part.contains("/members/usr_")).unwrap().to_owned();
    assert!(text(&browser.get(&member).await).contains("Not accepted yet"));
    assert_eq!(browser.submit(&format!("{member}/remove"), &[]).await.status, 303);
    let reply = accept(&Browser::new(&app), &path, PASSWORD).await;
    assert!(text(&reply).contains("was accepted or withdrawn"), "{}", text(&reply));
    let members = owner.get(&format!("/v1/users?project_id={}", owner.project)).await.ok();
    assert_eq!(members["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn person_with_an_account_accepts_with_its_password() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let known = app.owner().await;
    app.set_password(&known, PASSWORD).await;
    let path = invite(&browser, &known.email, "admin").await;
    let other = Browser::new(&app);
    let reply = accept(&other, &path, "not the password of it").await;
    assert!(reply.status == 422 && text(&reply).contains("You have an account already"), "{}", text(&reply));
    assert_eq!(other.session_cookie(), None);
    assert_eq!(accept(&other, &path, PASSWORD).await.status, 303);
    assert!(text(&other.get("/console").await).contains("You are a member now"));
}

#[tokio::test]
async fn invitation_can_be_pasted_and_junk_is_explained() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let url = format!("{}{}", app.url, invite(&browser, EMAIL, "viewer").await);
    let other = Browser::new(&app);
    assert!(text(&other.get("/console/invitation").await).contains("The link that you received"));
    for junk in ["", "nonsense", "inv_short", &format!("inv_{}", "a".repeat(49))] {
        let fields = [("invitation", junk), ("password", PASSWORD)];
        let reply = other.post("/console/invitation", &fields).await;
        assert!(reply.status == 422 && text(&reply).contains("role=\"alert\""), "{junk}: {}", text(&reply));
    }
    let fields = [("invitation", url.as_str()), ("password", PASSWORD)];
    assert_eq!(other.post("/console/invitation", &fields).await.status, 303);
}

#[tokio::test]
async fn accepting_replaces_the_session_that_the_browser_had() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let path = invite(&browser, EMAIL, "viewer").await;
    let (other, _) = Browser::owner(&app).await;
    let (name, before) = other.session_cookie().unwrap();
    // A cookie that an attacker has set does not become a session of the invited person.
    assert_eq!(accept(&other, &path, PASSWORD).await.status, 303);
    let (_, after) = other.session_cookie().unwrap();
    assert_ne!(before, after);
    let attacker = Browser::new(&app);
    attacker.cookies.lock().unwrap().insert(name, before);
    assert_eq!(attacker.get(&browser.path("/keys")).await.status, 404);
}

#[tokio::test]
async fn invitation_page_needs_a_form_of_this_site() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let path = invite(&browser, EMAIL, "viewer").await;
    let secret = path.split_once("invitation=").unwrap().1;
    let other = Browser::new(&app);
    let body = crate::support::browser::encoded(&[("invitation", secret), ("password", PASSWORD)]);
    let request = other.request("POST", "/console/invitation").header("sec-fetch-site", "cross-site").body(body);
    assert_eq!(other.send(request).await.status, 403);
    let reply = other.get(&path).await;
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(accept(&other, &path, PASSWORD).await.status, 303, "opening the link has not used it up");
}

#[tokio::test]
async fn last_owner_keeps_the_role_and_stays() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path(&format!("/members/{}", owner.user_id));
    assert!(text(&browser.get(&path).await).contains("A project keeps at least one owner"));
    let page = text(&browser.get(&format!("{path}/role")).await);
    assert!(page.contains("This is your own role"), "{page}");
    for (form, field, value) in [("role", "role", "admin"), ("remove", "confirmation", owner.email.as_str())] {
        let reply = browser.submit(&format!("{path}/{form}"), &[(field, value)]).await;
        assert!(reply.status == 422 && text(&reply).contains("make another user an owner first"), "{}", text(&reply));
    }
    // With another owner, the person can leave.
    app.member(&owner, Role::Owner).await;
    let reply = browser.submit(&format!("{path}/remove"), &[("confirmation", &owner.email)]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console")));
    assert_eq!(browser.get(&browser.path("/keys")).await.status, 404);
}

#[tokio::test]
async fn person_gives_at_most_the_own_role() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let viewer = Browser::member(&owner, Role::Viewer).await;
    let page = text(&viewer.get(&viewer.path("/members")).await);
    assert!(page.contains(&owner.email) && !page.contains("/invite"), "{page}");
    let page = text(&viewer.get(&viewer.path(&format!("/members/{}", owner.user_id))).await);
    assert!(!page.contains("/role") && !page.contains("/remove"), "{page}");
    assert_eq!(
        viewer.submit(&viewer.path("/members/invite"), &[("email", EMAIL), ("role", "viewer")]).await.status,
        403
    );

    let admin = Browser::member(&owner, Role::Admin).await;
    let page = text(&admin.get(&admin.path("/members/invite")).await);
    assert!(page.contains("value=\"admin\"") && !page.contains("value=\"owner\""), "{page}");
    let reply = admin.submit(&admin.path("/members/invite"), &[("email", EMAIL), ("role", "owner")]).await;
    assert!(reply.status == 422 && text(&reply).contains("role=\"alert\""), "{}", text(&reply));
    let page = text(&admin.get(&admin.path(&format!("/members/{}", owner.user_id))).await);
    assert!(!page.contains("/remove"), "an admin does not remove an owner: {page}");
}

#[tokio::test]
async fn errors_of_an_invitation_are_at_their_fields_and_a_double_click_sends_one() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/members/invite");
    let reply = browser.submit(&path, &[("email", "no address"), ("role", "king")]).await;
    let page = text(&reply);
    assert!(reply.status == 422 && page.contains("id=\"e-email\"") && page.contains("id=\"e-role\""), "{page}");
    assert!(page.contains("value=\"no address\""));
    let reply = browser.submit(&path, &[("email", &owner.email), ("role", "viewer")]).await;
    assert!(reply.status == 422 && text(&reply).contains("already in this project"), "{}", text(&reply));

    let fields = hidden(&text(&browser.get(&path).await));
    let once = fields.into_iter().find(|(name, _)| name == "_once").unwrap().1;
    let fields = [("_once", once.as_str()), ("email", EMAIL), ("role", "viewer")];
    let first = link(&text(&browser.post(&path, &fields).await));
    assert_eq!(link(&text(&browser.post(&path, &fields).await)), first);
}

#[tokio::test]
async fn role_is_not_changed_if_somebody_else_changed_it_meanwhile() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let member = app.member(&owner, Role::Viewer).await;
    let path = browser.path(&format!("/members/{}/role", member.user_id));
    let etag = hidden(&text(&browser.get(&path).await)).into_iter().find(|(name, _)| name == "_etag").unwrap().1;
    let api = format!("/v1/users/{}?project_id={}", member.user_id, owner.project);
    owner.patch(&api, json!({ "role": "member" })).await.ok();
    let reply = browser.post(&path, &[("_etag", &etag), ("_once", "late"), ("role", "admin")]).await;
    assert!(reply.status == 412 && text(&reply).contains("Somebody changed it"), "{}", text(&reply));
    assert_eq!(owner.get(&api).await.ok()["role"], "member");
}
