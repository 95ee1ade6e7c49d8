//! The pages under `/docs`, and the error catalog that they show.

mod errors;

use std::io::Read;

use cloudapi::{base::error::Code, server::routes};
use flate2::read::GzDecoder;
use serde_json::json;

use crate::support::{Identity, Reply, TestApp, app::PUBLIC_URL};

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

async fn page(app: &TestApp, path: &str) -> String {
    let reply = app.anonymous().get(path).await;
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    let page = text(&reply).to_owned();
    reply.ok();
    page
}

/// The values of `src` and `href` in an HTML page.
fn links(page: &str) -> Vec<&str> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|name| page.split(name).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

fn pages() -> Vec<String> {
    let errors = Code::ALL.iter().map(|code| format!("/docs/errors/{code}"));
    ["/docs", "/docs/errors"].into_iter().map(str::to_owned).chain(errors).collect()
}

#[tokio::test]
async fn pages_link_only_to_existing_paths_of_this_server() {
    let app = TestApp::shared().await;
    let mut seen: Vec<String> = Vec::new();
    for path in pages() {
        // Examples contain the server's own URL, which is not a link.
        let page = page(&app, &path).await.replace(PUBLIC_URL, "");
        assert!(!page.contains("://"), "{path} contains an external URL: {page}");
        for link in links(&page) {
            assert!(link.starts_with('/') && !link.starts_with("//"), "{path} links to {link}");
            if !seen.iter().any(|seen| seen == link) {
                seen.push(link.to_owned());
            }
        }
    }
    for link in seen {
        let reply = app.anonymous().get(&link).await;
        assert_eq!(reply.status, 200, "{link}");
        let media_type = match link.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            "txt" => "text/plain; charset=utf-8",
            "json" => "application/json",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(reply.header("content-type"), Some(media_type), "{link}");
    }
}

#[tokio::test]
async fn assets_load_nothing_from_other_hosts() {
    let app = TestApp::shared().await;
    for file in ["docs.css", "swagger-ui.css"] {
        let reply = app.anonymous().get(&format!("/docs/assets/{file}")).await;
        assert!(!text(&reply).contains("@import") && !text(&reply).contains("sourceMappingURL"), "{file}");
        for url in text(&reply).split("url(").skip(1) {
            assert!(url.trim_start_matches('"').starts_with("data:"), "{file}: {url:.60}");
        }
    }
    let search = app.anonymous().get("/docs/assets/search.js").await;
    assert!(!text(&search).contains("://") && text(&search).contains("fetch(\"/docs/search.json\")"));
    let script = app.anonymous().get("/docs/assets/docs.js").await;
    assert!(!text(&script).contains("://") && text(&script).contains("validatorUrl: null"));
}

/// One path for each route of the documentation.
fn documentation() -> Vec<String> {
    let table = routes::table();
    let of_docs = table.operations().filter(|it| it.path.starts_with("/docs") || it.path == "/openapi.json");
    let words = [("{guide}", "webhooks"), ("{code}", "not_found"), ("{file}", "docs.js")];
    let paths = of_docs.map(|it| words.iter().fold(it.path.to_owned(), |path, (name, word)| path.replace(name, word)));
    let paths: Vec<String> = paths.collect();
    assert!(paths.len() >= 8 && !paths.iter().any(|path| path.contains('{')), "{paths:?}");
    paths
}

#[tokio::test]
async fn pages_and_assets_have_a_content_security_policy_for_own_files_only() {
    let app = TestApp::shared().await;
    let pages = documentation().into_iter().filter(|path| path != "/openapi.json");
    for path in pages.chain(["/docs/assets/mark.svg".to_owned()]) {
        let reply = app.anonymous().get(&path).await;
        let policy = reply.header("content-security-policy").unwrap();
        let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        // Pages have no inline scripts, which the policy blocks.
        assert!(!text(&reply).contains("<script>") && !text(&reply).contains("onclick"), "{path}");
    }
}

#[tokio::test]
async fn assets_are_compressed_on_request_and_304_if_unchanged() {
    let app = TestApp::shared().await;
    let path = "/docs/assets/swagger-ui-bundle.js";
    let ask = |name: &'static str, value: String| app.anonymous().request("GET", path).header(name, &value).send();
    let plain = app.anonymous().get(path).await;
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    for codings in ["gzip", "br, GZIP;q=0.5", "deflate,gzip ; q=1.0"] {
        let packed = ask("accept-encoding", codings.to_owned()).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{codings}");
        assert_eq!(packed.header("vary"), Some("accept-encoding"));
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body);
    }
    for codings in ["", "br", "identity", "gzip;q=0", "gzip; q=0.000"] {
        assert_eq!(ask("accept-encoding", codings.to_owned()).await.header("content-encoding"), None, "{codings}");
    }
    let etag = plain.header("etag").unwrap().to_owned();
    for has in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let reply = ask("if-none-match", has).await;
        assert_eq!((reply.status, reply.body.len(), reply.header("etag")), (304, 0, Some(etag.as_str())));
    }
    assert_eq!(ask("if-none-match", "W/\"0\"".to_owned()).await.status, 200);
    let other = app.anonymous().get("/docs/assets/swagger-ui.css").await;
    assert_ne!(other.header("etag"), Some(etag.as_str()));
}

#[tokio::test]
async fn each_encoding_has_its_own_etag_and_either_returns_304() {
    let app = TestApp::shared().await;
    for path in documentation() {
        let ask = |method: &'static str, headers: Vec<(&'static str, String)>| {
            let request = app.anonymous().request(method, &path);
            headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
        };
        let gzip = || ("accept-encoding", "gzip".to_owned());
        let plain = ask("GET", vec![]).await;
        let packed = ask("GET", vec![gzip()]).await;
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body && packed.body.len() < plain.body.len(), "{path}");
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
        let [of_plain, of_packed] = [&plain, &packed].map(|reply| reply.header("etag").unwrap().to_owned());
        assert_eq!(format!("{}-gzip\"", of_plain.trim_end_matches('"')), of_packed, "{path}");
        assert!(!of_plain.starts_with("W/"), "{path}");
        for (method, reply) in [("GET", &plain), ("GET", &packed)] {
            assert!(reply.header("vary").unwrap().contains("accept-encoding"), "{method} {path}");
        }
        let refused = ask("GET", vec![("accept-encoding", "gzip;q=0".to_owned())]).await;
        assert_eq!(refused.header("content-encoding"), None, "{path}");
        let head = ask("HEAD", vec![gzip()]).await;
        assert_eq!((head.status, head.body.len(), head.header("content-encoding")), (200, 0, Some("gzip")), "{path}");
        assert_eq!(head.header("etag"), Some(of_packed.as_str()));
        for method in ["GET", "HEAD"] {
            for tag in [&of_plain, &of_packed] {
                for headers in [vec![], vec![gzip()]] {
                    let headers = [headers, vec![("if-none-match", tag.clone())]].concat();
                    let reply = ask(method, headers).await;
                    assert_eq!((reply.status, reply.body.len()), (304, 0), "{method} {path} {tag}");
                    assert_eq!(reply.header("etag"), Some(tag.as_str()), "{method} {path}");
                    assert_eq!(reply.header("content-encoding"), None);
                    assert!(reply.header("vary").unwrap().contains("accept-encoding"));
                }
            }
            let reply = ask(method, vec![gzip(), ("if-none-match", "\"other-gzip\"".to_owned())]).await;
            assert_eq!(reply.status, 200, "{method} {path}");
        }
        for tag in [&of_plain, &of_packed] {
            assert_eq!(ask("GET", vec![gzip(), ("if-match", tag.clone())]).await.status, 200, "{path}");
        }
        ask("GET", vec![("if-match", "\"other\"".to_owned())]).await.problem(412, "precondition_failed");
    }
}

/// A response that mixes a secret with a text of the client's choice must not be compressed (BREACH).
#[tokio::test]
async fn no_response_of_the_api_is_compressed() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut succeeded = 0;
    let table = routes::table();
    // The route that revokes the session is called last.
    let (last, others): (Vec<_>, Vec<_>) =
        table.operations().filter(|it| it.path.starts_with("/v1/")).partition(|it| it.path == "/v1/sessions/current");
    for operation in others.into_iter().chain(last) {
        let path = operation.path.replace("{project_id}", &owner.project).replace("{key_id}", &key.id);
        let path = path.replace("{kind}", "storage.volume").replace("{name}", "sim");
        let in_project = operation.query.is_some_and(|rules| rules.properties().contains_key("project_id"));
        let query = if in_project { format!("?project_id={}", owner.project) } else { String::new() };
        let body = json!({ "project_id": owner.project, "name": "name" });
        for secret in [None, Some(&owner.secret)] {
            let request = app.anonymous().request(operation.method.as_str(), &format!("{path}{query}"));
            let request = request.header("accept-encoding", "gzip, br, deflate, zstd, *");
            let request = match secret {
                Some(secret) => request.header("authorization", &format!("Bearer {secret}")),
                None => request,
            };
            let reply = if operation.body.is_some() { request.json(&body).send().await } else { request.send().await };
            assert_eq!(reply.header("content-encoding"), None, "{}", operation.name());
            succeeded += usize::from(reply.status < 300);
        }
    }
    assert!(succeeded > 15, "only {succeeded} requests succeeded");
}

#[tokio::test]
async fn root_redirects_browsers_to_docs_and_returns_entry_points_as_json() {
    let app = TestApp::shared().await;
    let ask = |accept: &'static str| app.anonymous().request("GET", "/").header("accept", accept).send();
    let browser = ask("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8").await;
    assert_eq!((browser.status, browser.header("location")), (302, Some("/docs")));
    assert!(browser.header("vary").unwrap().contains("accept"));
    for accept in ["*/*", "application/json"] {
        let points = ask(accept).await.ok();
        let paths =
            [("docs", "/docs"), ("openapi", "/openapi.json"), ("readiness", "/readyz"), ("liveness", "/healthz")];
        for (name, path) in paths {
            assert!(points[name].as_str().unwrap().ends_with(path), "{points}");
            app.anonymous().get(path).await.ok();
        }
    }
}

#[tokio::test]
async fn pages_support_head_and_reject_queries_and_other_methods() {
    let app = TestApp::shared().await;
    for path in [
        "/docs",
        "/docs/guides",
        "/docs/guides/usage",
        "/docs/search.json",
        "/docs/errors",
        "/docs/errors/timeout",
        "/docs/assets/docs.css",
    ] {
        let (get, head) = (app.anonymous().get(path).await, app.anonymous().request("HEAD", path).send().await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        app.anonymous().get(&format!("{path}?a=b")).await.problem(400, "unknown_parameter");
        app.anonymous().post(path, json!({})).await.problem(405, "method_not_allowed");
    }
}
