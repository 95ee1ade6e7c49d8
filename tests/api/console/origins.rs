//! Requests of other sites, and other addresses of the server.

use cloudapi::{http::layers::edge::EdgeOptions, server::state::AppOptions};

use crate::support::{
    Identity, TestApp,
    app::PUBLIC_URL,
    browser::{Browser, encoded, text},
};

#[tokio::test]
async fn writes_of_other_sites_are_rejected_with_every_method() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/keys/new");
    let own = app.url.clone();
    let foreign: [&[(&str, &str)]; 9] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "cross-site"), ("origin", &own)],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
        &[("referer", &own)],
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for headers in foreign {
            let fields = encoded(&[("name", "stolen"), ("preset", "full"), ("expires", "never")]);
            let mut request = browser.request(method, &path).body(fields);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let reply = browser.send(request).await;
            assert_eq!(reply.status, 403, "{method} {headers:?}");
            assert!(text(&reply).contains("another site"), "{method} {headers:?}");
        }
    }
    let keys = owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok();
    assert_eq!(keys["data"].as_array().unwrap().len(), 0, "nothing was created");
}

#[tokio::test]
async fn old_browser_is_recognized_by_its_origin() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let request = browser.request("POST", "/console/theme").header("origin", &app.url).body("theme=dark");
    assert_eq!(browser.send(request).await.status, 303);
}

#[tokio::test]
async fn sign_in_of_another_site_is_rejected() {
    let app = TestApp::start().await;
    let browser = Browser::new(&app);
    let request = browser.request("POST", "/console/sign-in").header("sec-fetch-site", "cross-site");
    let reply = browser.send(request.body("email=a@example.com&password=x")).await;
    assert_eq!((reply.status, browser.session_cookie()), (403, None));
}

#[tokio::test]
async fn link_from_another_site_opens_the_page_without_signing_in_again() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let path = browser.path("/keys?status=active");
    // Browsers do not send a strict cookie with it.
    let request = app.http.get(format!("{}{path}", app.url));
    let request = request.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate");
    let page = text(&browser.send(request).await);
    assert!(page.contains(&format!("content=\"0;url={path}\"")), "{page}");
    assert!(page.len() < 1000 && !page.contains("<script"), "{page}");
    assert_eq!(browser.get(&path).await.status, 200);
}

#[tokio::test]
async fn plain_http_is_refused_except_on_this_machine() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    for host in ["10.0.0.5:8080", "api.example.com", "localhost.evil.example"] {
        for path in ["/console", "/console/sign-in"] {
            let reply = browser.send(browser.request("GET", path).header("host", host)).await;
            assert_eq!(reply.status, 403, "{host}");
            assert!(text(&reply).contains("HTTPS is required"), "{host}");
            assert!(text(&reply).contains("CLOUDAPI_PUBLIC_URL"));
        }
    }
    let reply = browser.send(browser.request("GET", "/console/sign-in").header("host", "localhost:8080")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn https_server_sets_a_host_cookie() {
    let edge = EdgeOptions { https: true, ..EdgeOptions::default() };
    let app = TestApp::start_with(AppOptions { edge, ..AppOptions::default() }).await;
    let (browser, _) = Browser::owner(&app).await;
    let (name, _) = browser.session_cookie().unwrap();
    assert_eq!(name, "__Host-cloudapi");
    let request = browser.request("POST", "/console/theme").header("origin", PUBLIC_URL).body("theme=dark");
    let reply = browser.send(request).await;
    assert_eq!(reply.status, 303);
    assert!(reply.header("set-cookie").unwrap().contains("; Secure"));
}
