//! Pages of resources, operations and providers.

mod forms;
mod pages;

use cloudapi::server::state::AppOptions;
use serde_json::{Value, json};

use crate::support::{
    Identity, Reply, Session, TestApp,
    browser::{Browser, hidden, text},
    cloud::{fast_provider, wait_until_ended},
};

async fn start() -> TestApp {
    TestApp::start_with(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await
}

/// Submits a form that creates something, and returns the path of the page that it leads to.
async fn created(browser: &Browser<'_>, path: &str, fields: &[(&str, &str)]) -> String {
    let reply = browser.submit(path, fields).await;
    assert_eq!(reply.status, 303, "{path}: {}", text(&reply));
    reply.header("location").unwrap().to_owned()
}

async fn new_volume(browser: &Browser<'_>, name: &str) -> String {
    let fields = [("name", name), ("spec.size_gib", "20")];
    created(browser, &browser.path("/resources/new?kind=storage.volume"), &fields).await
}

/// The resource of a page, after its newest operation has ended.
async fn settled(owner: &Session<'_>, page: &str) -> Value {
    let id = page.rsplit('/').next().unwrap();
    let list = format!("/v1/operations?project_id={}&resource_id={id}&order=desc&limit=1", owner.project);
    let operation = owner.get(&list).await.ok()["data"][0].clone();
    wait_until_ended(owner, &json!({ "operation": operation })).await;
    owner.get(&format!("/v1/resources/{id}")).await.ok()
}

/// Submits the form of a page with a plan: applies it, or leads back to the form.
async fn after_plan(browser: &Browser<'_>, path: &str, plan: &str, applies: bool) -> Reply {
    let typed = hidden(plan).into_iter().find(|(name, _)| name == "_typed").unwrap().1;
    let mut fields = vec![("_typed", typed.as_str())];
    if applies {
        fields.push(("_again", "1"));
    }
    browser.post(path, &fields).await
}
