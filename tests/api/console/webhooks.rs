//! Pages of webhooks, with a real receiver.

use cloudapi::{api::webhooks::model::DeliveryStatus, base::identity::role::Role};
use serde_json::{Value, json};

use crate::{
    support::{
        Identity, Session, TestApp,
        browser::{Browser, hidden, text},
        eventually,
        receiver::{Behavior, Receiver},
    },
    webhooks::{UNREACHABLE_URL, fast_policy, set_up, webhook},
};

const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

/// A webhook whose description is markup, and one of its deliveries.
pub async fn example(owner: &Session<'_>) -> (String, String) {
    let created = webhook(owner, UNREACHABLE_URL, json!({ "description": MARKUP })).await;
    let id = created["id"].as_str().unwrap().to_owned();
    owner.post(&format!("/v1/webhooks/{id}/test"), json!({})).await.accepted();
    let delivery = eventually("delivery of the test", async || latest(owner, &id).await).await;
    (id, delivery["id"].as_str().unwrap().to_owned())
}

/// The latest delivery of a webhook.
async fn latest(owner: &Session<'_>, webhook: &str) -> Option<Value> {
    let found = owner.get(&format!("/v1/webhooks/{webhook}/deliveries?order=desc&limit=1")).await.ok();
    found["data"].get(0).cloned()
}

async fn latest_is(owner: &Session<'_>, webhook: &str, status: DeliveryStatus, attempts: usize) -> Value {
    eventually(&format!("delivery {} after {attempts} attempts", status.as_str()), async || {
        let found = latest(owner, webhook).await?;
        let made = found["attempts"].as_array().unwrap().len();
        (found["status"] == status.as_str() && made >= attempts).then_some(found)
    })
    .await
}

fn secret(page: &str) -> String {
    let found = page.split('"').find(|part| part.starts_with("whsec_"));
    found.unwrap_or_else(|| panic!("no secret in {page}")).to_owned()
}

/// Creates a webhook with the form. Returns its path, its ID and its secret.
async fn create(browser: &Browser<'_>, receiver: &Receiver, types: &[&str]) -> (String, String, String) {
    let url = receiver.url();
    let mut fields = vec![("url", url.as_str()), ("description", "billing"), ("enabled", "true")];
    fields.push(("selection", if types.is_empty() { "all" } else { "some" }));
    fields.extend(types.iter().map(|kind| ("event_types", *kind)));
    let page = text(&browser.submit(&browser.path("/webhooks/new"), &fields).await);
    let path = page.split("data-shown-path=\"").nth(1).unwrap_or_else(|| panic!("{page}")).split('"').next().unwrap();
    let secret = secret(&page);
    assert!(page.contains("http.server") && page.contains("timingSafeEqual"), "how to check signatures: {page}");
    (path.to_owned(), path.rsplit('/').next().unwrap().to_owned(), secret)
}

#[tokio::test]
async fn webhook_is_created_tested_redelivered_rotated_and_deleted() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (browser, owner) = Browser::owner(&app).await;
    assert!(text(&browser.get(&browser.path("/webhooks")).await).contains("No webhooks yet"));
    let (path, id, first) = create(&browser, &receiver, &["key.created", "key.revoked"]).await;
    let page = text(&browser.get(&path).await);
    for shown in ["127.0.0.1:", "billing", "key.revoked", "Enabled", "No deliveries yet", "/delete"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains(&first), "the secret is shown once");

    receiver.respond_with("500 Internal Server Error");
    let reply = browser.submit(&path, &[("do", "test")]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(path.as_str())), "{}", text(&reply));
    let delivery = latest_is(&owner, &id, DeliveryStatus::Pending, 2).await;
    let one = format!("{path}/deliveries/{}", delivery["id"].as_str().unwrap());
    let page = text(&browser.get(&path).await);
    assert!(page.contains("webhook.tested") && page.contains(&one) && page.contains("<code>500</code>"), "{page}");
    assert!(page.contains("Failing") && page.contains("Attempts have failed since"), "{page}");
    let page = text(&browser.get(&one).await);
    for shown in ["Pending", "unsuccessful_status", "<code>500</code>", " ms", "Next attempt", "data-progress"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }

    receiver.respond_with("200 OK");
    latest_is(&owner, &id, DeliveryStatus::Delivered, 3).await;
    assert!(receiver.wait_for("webhook.tested", 1).await.is_signed_by(&first));
    let attempts = receiver.of_type("webhook.tested").len();
    let reply = browser.submit(&one, &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(one.as_str())), "{}", text(&reply));
    receiver.wait_for("webhook.tested", attempts + 1).await;
    let page = text(&browser.get(&path).await);
    assert!(page.contains("Delivered") && !page.contains("Failing"), "{page}");

    let page = text(&browser.submit(&format!("{path}/rotate"), &[("overlap_seconds", "3600")]).await);
    let second = secret(&page);
    assert!(second != first && page.contains("also signed with the previous secret"), "{page}");
    assert!(text(&browser.get(&path).await).contains("signed with two secrets"));
    let reply = browser.submit(&format!("{path}/rotate"), &[("overlap_seconds", "3600")]).await;
    assert!(reply.status == 422 && text(&reply).contains("has two valid secrets until"), "{}", text(&reply));
    let key = owner.key().await;
    let sent = receiver.wait_for("key.created", 1).await;
    assert!(sent.is_signed_by(&first) && sent.is_signed_by(&second) && sent.event()["subject"] == key.id.as_str());

    let reply = browser.submit(&format!("{path}/delete"), &[("confirmation", "wrong")]).await;
    assert!(reply.status == 422 && text(&reply).contains("This is not the host of the webhook"));
    let host = receiver.address.to_string();
    let reply = browser.submit(&format!("{path}/delete"), &[("confirmation", &host)]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some(&*browser.path("/webhooks"))));
    assert!(
        text(&browser.get(&browser.path("/webhooks")).await).contains(&format!("The webhook to {host} is deleted"))
    );
    assert_eq!(browser.get(&path).await.status, 404);
}

#[tokio::test]
async fn disabled_webhook_says_why_and_is_enabled_again() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (browser, owner) = Browser::owner(&app).await;
    let (path, id, _) = create(&browser, &receiver, &["key.created"]).await;
    receiver.respond_with("410 Gone");
    assert_eq!(browser.submit(&path, &[("do", "test")]).await.status, 303);
    eventually("webhook to be disabled", async || {
        let found = owner.get(&format!("/v1/webhooks/{id}")).await.ok();
        (found["enabled"] == false).then_some(())
    })
    .await;
    let page = text(&browser.get(&path).await);
    assert!(
        page.contains("No events are sent") && page.contains("410 Gone") && !page.contains("Send a test"),
        "{page}"
    );
    assert!(text(&browser.get(&browser.path("/webhooks")).await).contains("The receiver answered 410 Gone"));
    // The page of another tab still has the button.
    let reply = browser.submit(&path, &[("do", "test")]).await;
    assert!(reply.status == 422 && text(&reply).contains("The webhook is disabled"), "{}", text(&reply));

    receiver.respond_with("200 OK");
    assert_eq!(browser.submit(&path, &[("do", "enable")]).await.status, 303);
    assert!(text(&browser.get(&path).await).contains("The webhook is enabled"));
    latest_is(&owner, &id, DeliveryStatus::Delivered, 1).await;

    let url = receiver.url();
    let fields = [("url", url.as_str()), ("description", ""), ("selection", "some"), ("event_types", "key.created")];
    assert_eq!(browser.submit(&format!("{path}/edit"), &fields).await.status, 303);
    let changed = owner.get(&format!("/v1/webhooks/{id}")).await.ok();
    assert_eq!((&changed["enabled"], &changed["description"]), (&json!(false), &json!("")));
    assert_eq!(changed["event_types"], json!(["key.created"]));
    assert!(text(&browser.get(&path).await).contains("A person or a program disabled the webhook"));
}

#[tokio::test]
async fn errors_are_at_the_fields_and_what_was_typed_is_kept() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let new = browser.path("/webhooks/new");
    let fields = [("url", "http://10.0.0.1/?a=1&b=2"), ("description", "typed"), ("selection", "all")];
    let reply = browser.submit(&new, &fields).await;
    let page = text(&reply);
    assert!(reply.status == 422 && page.contains("id=\"e-url\"") && page.contains("must use https"), "{page}");
    assert!(page.contains("http://10.0.0.1/?a=1&#38;b=2") && page.contains("value=\"typed\""), "{page}");
    let page = text(&browser.submit(&new, &[("url", "no url"), ("selection", "all")]).await);
    assert!(page.contains("id=\"e-url\"") && page.contains("Must be a URL"), "{page}");
    let reply = browser.submit(&new, &[("url", UNREACHABLE_URL), ("selection", "some")]).await;
    assert!(reply.status == 422 && text(&reply).contains("Tick at least one type"), "{}", text(&reply));

    let (id, _) = example(&owner).await;
    let edit = browser.path(&format!("/webhooks/{id}/edit"));
    let page = text(&browser.get(&edit).await);
    let etag = hidden(&page).into_iter().find(|(name, _)| name == "_etag").unwrap().1;
    owner.patch(&format!("/v1/webhooks/{id}"), json!({ "description": "changed" })).await.ok();
    let late = [("_etag", etag.as_str()), ("_once", "late"), ("url", UNREACHABLE_URL), ("selection", "all")];
    let reply = browser.post(&edit, &late).await;
    assert!(reply.status == 412 && text(&reply).contains("Somebody changed it"), "{}", text(&reply));
}

#[tokio::test]
async fn viewer_sees_webhooks_but_neither_deliveries_nor_a_way_to_change_them() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (id, delivery) = example(&owner).await;
    let browser = Browser::member(&owner, Role::Viewer).await;
    let page = text(&browser.get(&browser.path("/webhooks")).await);
    assert!(page.contains(UNREACHABLE_URL) && !page.contains("Create a webhook"), "{page}");
    let path = browser.path(&format!("/webhooks/{id}"));
    let page = text(&browser.get(&path).await);
    for hidden in ["/delete", "/rotate", "/edit", "Send a test", "<h2>Deliveries"] {
        assert!(!page.contains(hidden), "{hidden} in {page}");
    }
    assert_eq!(browser.get(&format!("{path}/deliveries/{delivery}")).await.status, 403);
    let host = [("confirmation", "receiver.invalid")];
    for (rest, fields) in [("", &[("do", "test")]), ("/delete", &host)] {
        let token = [("_once", "key"), fields[0]];
        let reply = browser.post(&format!("{path}{rest}"), &token).await;
        assert!(reply.status == 403 && text(&reply).contains("Ask an owner or an admin"), "{}", text(&reply));
    }
}

#[tokio::test]
async fn webhook_of_another_project_is_not_found() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let (id, delivery) = example(&app.owner().await).await;
    for rest in ["", "/edit", "/rotate", "/delete", &format!("/deliveries/{delivery}")] {
        for id in [&*id, "wh_1", "nonsense"] {
            let path = browser.path(&format!("/webhooks/{id}{rest}"));
            assert_eq!(browser.get(&path).await.status, 404, "{path}");
        }
    }
}

#[tokio::test]
async fn markup_of_urls_descriptions_and_receivers_is_escaped() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (browser, owner) = Browser::owner(&app).await;
    receiver.set(Behavior::Raw(format!("HTTP/1.1 <script>alert(2)</script>\r\nx: {MARKUP}\r\n\r\n").into_bytes()));
    // The API accepts no other character of markup in a URL.
    let url = format!("{}?a='onclick='alert(1)'&b=%3Cscript%3E", receiver.url());
    let created = webhook(&owner, &url, json!({ "description": MARKUP })).await;
    let id = created["id"].as_str().unwrap();
    owner.post(&format!("/v1/webhooks/{id}/test"), json!({})).await.accepted();
    let delivery = latest_is(&owner, id, DeliveryStatus::Pending, 1).await;
    let path = browser.path(&format!("/webhooks/{id}"));
    let one = format!("{path}/deliveries/{}", delivery["id"].as_str().unwrap());
    for path in [
        browser.path("/webhooks"),
        format!("{path}/edit"),
        format!("{path}/rotate"),
        format!("{path}/delete"),
        one,
        format!("{path}?status=%22%3E%3Cscript%3Ealert(1)"),
        path,
    ] {
        let page = text(&browser.get(&path).await);
        for markup in ["<script>alert", "<img src=x", "a='onclick"] {
            assert!(!page.contains(markup), "{path} has {markup}: {page}");
        }
    }
}

#[tokio::test]
async fn deliveries_are_filtered_and_paged() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (browser, owner) = Browser::owner(&app).await;
    let (path, id, _) = create(&browser, &receiver, &["key.created"]).await;
    for _ in 0..27 {
        owner.post(&format!("/v1/webhooks/{id}/test"), json!({})).await.accepted();
    }
    receiver.wait_for("webhook.tested", 27).await;
    let rows = |page: &str| page.matches("/deliveries/dlv_").count();
    let page = eventually("all deliveries on two pages", async || {
        let page = text(&browser.get(&path).await);
        page.contains("Next page").then_some(page)
    })
    .await;
    let next = page.split('"').find(|part| part.contains("cursor=")).unwrap().replace("&#38;", "&");
    let second = text(&browser.get(&next).await);
    assert_eq!(rows(&page) + rows(&second), 27, "{second}");
    assert!(second.contains("First page"));
    let page = text(&browser.get(&format!("{path}?status=failed")).await);
    assert!(page.contains("No delivery has this status") && page.contains("Show all deliveries"), "{page}");
}
