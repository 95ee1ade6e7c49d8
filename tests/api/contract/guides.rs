//! The guides under `/docs/guides`, and the search index.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::Path,
};

use cloudapi::{base::error::Code, http::catalog::entry, server::routes};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::support::{Identity, TestApp, app::PUBLIC_URL, document};

/// Names and Markdown of `docs/*.md` and of the quick start, which is a part of README.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let quick_start = format!(
        "# {}",
        readme.split_once("\n## Quick start\n").map(|(_, rest)| format!("Quick start\n{rest}")).unwrap()
    );
    fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .chain([("quick-start".to_owned(), quick_start)])
        .collect()
}

fn route(name: &str) -> String {
    if name == "README" { "/docs/guides".to_owned() } else { format!("/docs/guides/{name}") }
}

/// Path and page of each guide and of the index.
async fn pages(app: &TestApp) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for name in sources().into_keys() {
        let reply = app.anonymous().get(&route(&name)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")), "{name}");
        pages.insert(route(&name), String::from_utf8(reply.body).unwrap());
    }
    pages
}

fn values(page: &str, attribute: &str) -> BTreeSet<String> {
    let start = format!(" {attribute}=\"");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

fn main_of(page: &str) -> &str {
    page.split_once("<main").unwrap().1
}

#[tokio::test]
async fn every_guide_is_served_and_linked_from_the_index() {
    let app = TestApp::shared().await;
    let pages = pages(&app).await;
    let index = main_of(&pages["/docs/guides"]);
    for group in ["Start", "Guides", "Reference", "Operate"] {
        assert!(index.contains(&format!(">{group} <a class=\"anchor\"")), "no group {group}");
    }
    for (name, source) in sources() {
        let page = &pages[&route(&name)];
        let title = source.lines().next().unwrap().strip_prefix("# ").unwrap();
        assert!(page.contains(&format!("<title>{title} · CloudAPI</title>")), "{name}");
        assert_eq!(page.matches("<h1").count(), 1, "{name}");
        if name != "README" {
            assert!(values(index, "href").contains(&route(&name)), "docs/README.md has no link to {name}.md");
            assert!(main_of(page).contains("href=\"/docs/guides\""), "{name} has no link to the index");
        }
    }
}

#[tokio::test]
async fn every_link_and_anchor_in_a_guide_resolves() {
    let app = TestApp::shared().await;
    let pages = pages(&app).await;
    let mut others = BTreeSet::new();
    for (path, page) in &pages {
        for link in values(page, "href") {
            let (to, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let to = if to.is_empty() { path } else { to };
            // The quick start links to the server that it starts.
            let to = match to.strip_prefix("http://127.0.0.1:8080") {
                Some("") => "/",
                Some(path) => path,
                None => to,
            };
            if to.starts_with("https://") {
                continue;
            }
            assert!(to.starts_with('/') && !to.starts_with("//"), "{path}: {link}");
            if let Some(target) = pages.get(to) {
                assert!(fragment.is_empty() || values(target, "id").contains(fragment), "{path}: {link}");
            } else {
                assert_eq!(fragment, "", "{path}: {link}");
                others.insert(to.to_owned());
            }
        }
        let ids = page.matches(" id=\"").count();
        assert_eq!(ids, values(page, "id").len(), "{path} has an id twice");
    }
    for path in others {
        assert_eq!(app.anonymous().get(&path).await.status, 200, "{path}");
    }
}

/// The policy of the pages refuses inline scripts and styles.
#[tokio::test]
async fn guide_has_no_markup_of_its_own_and_keeps_the_language_of_its_code() {
    let app = TestApp::shared().await;
    for (path, page) in pages(&app).await {
        let main = main_of(&page);
        for refused in ["<script", " style=", " onclick=", "<iframe", "<img", ".md\"", "<!--"] {
            assert!(!main.contains(refused), "{path}: {refused}");
        }
    }
    let webhooks = app.anonymous().get("/docs/guides/webhooks").await;
    let webhooks = std::str::from_utf8(&webhooks.body).unwrap();
    for part in ["<code class=\"language-sh\">", "<h2 id=\"create-a-webhook\">", "&lt; 300"] {
        assert!(webhooks.contains(part), "no {part}");
    }
    let settings = app.anonymous().get("/docs/guides/settings").await;
    assert!(std::str::from_utf8(&settings.body).unwrap().contains("<table>"));
    let proxy = app.anonymous().get("/docs/guides/proxy").await;
    assert!(std::str::from_utf8(&proxy.body).unwrap().contains("<a id=\"stopping-without-losing-a-request\"></a>"));
}

#[tokio::test]
async fn unknown_guide_is_not_found_with_a_suggestion() {
    let app = TestApp::shared().await;
    let problem = app.anonymous().get("/docs/guides/webhook").await.problem(404, "not_found");
    assert_eq!(problem["detail"], "'webhook' is not a guide; did you mean 'webhooks'?");
    for name in ["README", "index.html", "webhooks.md", "..%2FREADME", "%FF", "zzzzzzzzzz"] {
        app.anonymous().get(&format!("/docs/guides/{name}")).await.problem(404, "not_found");
    }
    app.anonymous().get("/docs/guides/").await.problem(404, "route_not_found");
}

#[tokio::test]
async fn search_index_has_every_guide_operation_and_error() {
    let app = TestApp::shared().await;
    let pages = pages(&app).await;
    let reply = app.anonymous().request("GET", "/docs/search.json").header("accept-encoding", "gzip").send().await;
    assert!(reply.body.len() < 100_000, "{} bytes with gzip", reply.body.len());
    let mut text = String::new();
    GzDecoder::new(reply.body.as_slice()).read_to_string(&mut text).unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    let all = |kind: &str| index[kind].as_array().unwrap().clone();
    let urls = |kind: &str| -> BTreeSet<String> {
        all(kind).iter().map(|entry| entry["url"].as_str().unwrap().to_owned()).collect()
    };

    let guides = urls("guides");
    for (path, page) in &pages {
        assert!(guides.contains(path), "{path}");
        // Each section has an entry.
        for heading in ["<h2 id=\"", "<h3 id=\""] {
            for id in page.split(heading).skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(guides.contains(&format!("{path}#{id}")), "{path}#{id}");
            }
        }
    }
    for url in &guides {
        let (path, fragment) = url.split_once('#').unwrap_or((url, ""));
        assert!(fragment.is_empty() || values(&pages[path], "id").contains(fragment), "{url}");
    }
    let words = |entry: &Value| entry["text"].as_str().unwrap().contains("whsec_");
    assert!(all("guides").iter().any(|entry| entry["title"] == "Webhooks" && words(entry)));

    let operations = all("operations");
    assert_eq!(operations.len(), routes::table().operations().count());
    for operation in routes::table().operations() {
        let is_it = |entry: &&Value| entry["method"] == operation.method.as_str() && entry["path"] == operation.path;
        let found = operations.iter().find(is_it).unwrap_or_else(|| panic!("no {}", operation.name()));
        let described = &document::published()["paths"][operation.path][operation.method.as_str().to_lowercase()];
        assert_eq!(found["summary"], described["summary"]);
        let (tag, id) = (described["tags"][0].as_str().unwrap(), described["operationId"].as_str().unwrap());
        assert_eq!(found["url"], format!("/docs#/{tag}/{id}"));
    }

    let errors = all("errors");
    assert_eq!(errors.len(), Code::ALL.len());
    for &code in Code::ALL {
        let found = errors.iter().find(|entry| entry["code"] == code.as_str()).unwrap();
        assert_eq!(
            (&found["title"], &found["status"]),
            (&entry(code).title.into(), &entry(code).status.as_u16().into())
        );
        app.anonymous().get(found["url"].as_str().unwrap()).await.ok();
    }
}

#[tokio::test]
async fn every_page_has_the_navigation_and_the_search_box() {
    let app = TestApp::shared().await;
    for path in ["/docs", "/docs/guides", "/docs/guides/audit", "/docs/errors", "/docs/errors/not_found"] {
        let reply = app.anonymous().get(path).await;
        let page = std::str::from_utf8(&reply.body).unwrap().replace(PUBLIC_URL, "");
        let header = page.split("</header>").next().unwrap();
        for part in ["/docs\"", "/docs/guides\"", "/docs/errors\"", "/openapi.json\""] {
            assert!(header.contains(&format!("href=\"{part}")), "{path}: {part}");
        }
        for part in ["role=\"search\" hidden", "aria-live=\"polite\"", "src=\"/docs/assets/search.js\""] {
            assert!(header.contains(part), "{path}: {part}");
        }
        assert_eq!(header.matches("aria-current").count(), usize::from(path != "/docs/errors/not_found"), "{path}");
    }
}
