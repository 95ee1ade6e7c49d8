//! Headers of pages and files.

use super::pages_of;
use crate::support::{
    TestApp,
    browser::{Browser, text},
};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

#[tokio::test]
async fn every_page_has_a_strict_policy_and_is_not_stored() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let mut paths = pages_of(&owner).await;
    paths.extend(
        [
            "/console/sign-in",
            "/console/sign-out",
            "/console/nothing",
            "/console/sign-in?link=x",
            "/console/invitation?invitation=x",
        ]
        .map(Into::into),
    );
    for path in paths {
        let reply = browser.get(&path).await;
        assert_eq!(reply.header("content-security-policy"), Some(POLICY), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(reply.header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
        let has_secret = ["/console/sign-in", "/console/invitation"].iter().any(|start| path.starts_with(start));
        let referrer = if has_secret { "no-referrer" } else { "same-origin" };
        assert_eq!(reply.header("referrer-policy"), Some(referrer), "{path}");
    }
}

#[tokio::test]
async fn pages_have_no_inline_script_or_style() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    for path in pages_of(&owner).await {
        let page = text(&browser.get(&path).await);
        for inline in ["<style", " style=", " onclick=", " onload=", " onsubmit=", "javascript:"] {
            assert!(!page.contains(inline), "{path} has {inline}");
        }
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, page.matches("<script src=\"/console/assets/").count(), "{path}");
    }
}

#[tokio::test]
async fn files_are_immutable_and_compressed() {
    let app = TestApp::start().await;
    let browser = Browser::new(&app);
    let page = text(&browser.get("/console/sign-in").await);
    let files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/console/assets/")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let reply = browser.send(browser.request("GET", file).header("accept-encoding", "gzip")).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")), "{file}");
        assert_eq!(reply.header("cache-control"), Some("public, max-age=31536000, immutable"), "{file}");
        assert_eq!(reply.header("set-cookie"), None);
    }
    assert_eq!(browser.get("/console/assets/console.css").await.status, 404);
    assert_eq!(browser.get("/console/assets/..%2f..%2fCargo.toml").await.status, 404);
}
