//! Creates an item for each path parameter in the route table, so that tests can be generated from the table.

use cloudapi::{
    base::identity::{role::Role, secret::SecretKind},
    http::describe::Operation,
    server::routes,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Identity, Key, Session, TestApp,
    cloud::{insert_operation, insert_volume},
    hooks::{create_idle_webhook, insert_delivery},
};

/// A project with its owner and a key.
pub struct Items<'a> {
    pub owner: Session<'a>,
    pub key: Key<'a>,
}

impl<'a> Items<'a> {
    pub async fn new(app: &'a TestApp) -> Self {
        let owner = app.owner().await;
        let key = owner.key().await;
        Self { owner, key }
    }

    /// The operation's path with new items in it, and with the query that a session needs.
    pub async fn path(&self, operation: &Operation) -> String {
        let mut path = operation.path.to_owned();
        for name in operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let id = self.item(name, &path).await;
            path = path.replace(&format!("{{{name}}}"), &id);
        }
        if operation.path.starts_with("/v1/projects/") && operation.method == Method::DELETE {
            self.owner.post_empty(&format!("{path}/archive")).await.ok();
        }
        self.with_query(operation, path)
    }

    async fn item(&self, name: &str, path: &str) -> String {
        let owner = &self.owner;
        match name {
            "project_id" => id(&owner.post("/v1/projects", json!({ "name": "another" })).await.created()),
            "key_id" => owner.key().await.id,
            "token_id" => owner.token(&["users:read"]).await.id,
            "user_id" => owner.app.member(owner, Role::Member).await.user_id.to_string(),
            "session_id" => owner.app.another_session(owner).await.id,
            "webhook_id" => create_idle_webhook(owner).await,
            "delivery_id" => insert_delivery(owner, path.split('/').nth(3).unwrap()).await,
            "resource_id" => insert_volume(owner).await,
            "operation_id" => insert_operation(owner.app, &insert_volume(owner).await).await,
            "name" => "sim".to_owned(),
            "kind" => "storage.volume".to_owned(),
            "code" => "not_found".to_owned(),
            "file" => "docs.css".to_owned(),
            "guide" => "webhooks".to_owned(),
            other => panic!("unknown path parameter {{{other}}}; add it here"),
        }
    }

    fn with_query(&self, operation: &Operation, path: String) -> String {
        match operation.query {
            Some(rules) if rules.properties().contains_key("project_id") => {
                format!("{path}?project_id={}", self.owner.project)
            }
            _ => path,
        }
    }

    /// A request of the owner, or of the key if sessions are not allowed.
    pub fn request(&self, operation: &Operation, path: &str) -> super::identity::TestRequest {
        self.request_as(operation, operation.method.as_str(), path)
    }

    /// The same with another method.
    pub fn request_as(&self, operation: &Operation, method: &str, path: &str) -> super::identity::TestRequest {
        let kinds = operation.policy.kinds();
        match kinds.is_empty() || kinds.contains(&SecretKind::Session) {
            true => self.owner.request(method, path),
            false => self.key.request(method, path),
        }
    }

    /// A body with which a write of an item succeeds. None if the operation has no body.
    pub fn body(&self, operation: &Operation) -> Option<Value> {
        operation.body?;
        Some(match operation.path {
            "/v1/resources/{resource_id}/actions" => json!({ "action": "resize", "size_gib": 40 }),
            _ => json!({}),
        })
    }

    /// The path at which the item that the operation writes to can be read: the operation's path, or a prefix of it.
    pub fn item_path(&self, operation: &Operation, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap();
        let table = routes::table();
        let readable = table.operations().filter(|read| read.method == Method::GET && read.conditional);
        let item = readable
            .filter(|read| operation.path == read.path || operation.path.starts_with(&format!("{}/", read.path)))
            .max_by_key(|read| read.path.len())?;
        let parts: Vec<&str> = path.split('/').take(item.path.split('/').count()).collect();
        Some(self.with_query(item, parts.join("/")))
    }
}

fn id(item: &Value) -> String {
    item["id"].as_str().unwrap().to_owned()
}
