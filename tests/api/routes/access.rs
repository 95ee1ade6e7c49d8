//! Access matrix: every route with every kind of caller, generated from the route table. Exactly the allowed
//! cells pass. New routes are included automatically.

use std::collections::BTreeMap;

use cloudapi::{
    base::identity::{
        access_policy::{AccessPolicy, SelfAccess},
        role::Role,
        scope::Scope,
        secret::SecretKind,
    },
    http::describe::Operation,
    server::{routes, state::AppOptions},
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Bearer, Identity, Key, Reply, Session, TestApp, Token,
    cloud::{insert_network, insert_operation},
    diverted_connections, document,
    hooks::insert_delivery,
    items,
};

/// Kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    Nobody,
    /// A member of the project, in this role.
    Session(Role),
    /// The owner of another project.
    Stranger,
    /// A key with every scope, and one with only [`NARROW`].
    Key,
    NarrowKey,
    /// A token with every scope, and one with only [`NARROW`].
    Token,
    NarrowToken,
    /// Another project's key, with every scope.
    ForeignKey,
    /// The credentials of a suspended project, with every scope.
    SuspendedKey,
    SuspendedToken,
}

/// The only scope of narrow credentials. Few routes require it.
const NARROW: Scope = Scope::TokensIntrospect;

const ALL: &[CallerKind] = &[
    CallerKind::Nobody,
    CallerKind::Session(Role::Viewer),
    CallerKind::Session(Role::Member),
    CallerKind::Session(Role::Admin),
    CallerKind::Session(Role::Owner),
    CallerKind::Stranger,
    CallerKind::Key,
    CallerKind::NarrowKey,
    CallerKind::Token,
    CallerKind::NarrowToken,
    CallerKind::ForeignKey,
    CallerKind::SuspendedKey,
    CallerKind::SuspendedToken,
];

/// Expected result of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Allowed: the response is not 401, 403, 404 or 5xx.
    Pass,
    Refuse(u16, &'static str),
}

/// Cells whose response differs from [`expected`], each with its reason. This list may only shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

fn expected(operation: &Operation, who: CallerKind) -> Verdict {
    let AccessPolicy::Scoped { scopes, kinds, self_access, owner } = operation.policy else {
        return match (operation.policy, who) {
            (AccessPolicy::Public | AccessPolicy::SignIn, _) | (_, CallerKind::Session(_) | CallerKind::Stranger) => {
                Verdict::Pass
            }
            (_, CallerKind::Nobody) => Verdict::Refuse(401, "missing_credentials"),
            _ => Verdict::Refuse(403, "credential_kind_not_allowed"),
        };
    };
    let kind = match who {
        CallerKind::Nobody => return Verdict::Refuse(401, "missing_credentials"),
        CallerKind::Session(_) | CallerKind::Stranger => SecretKind::Session,
        CallerKind::Key | CallerKind::NarrowKey | CallerKind::ForeignKey | CallerKind::SuspendedKey => SecretKind::Key,
        CallerKind::Token | CallerKind::NarrowToken | CallerKind::SuspendedToken => SecretKind::Token,
    };
    if !kinds.contains(&kind) {
        return Verdict::Refuse(403, "credential_kind_not_allowed");
    }
    if matches!(who, CallerKind::SuspendedKey | CallerKind::SuspendedToken) {
        return Verdict::Refuse(403, "project_suspended");
    }
    if self_access == SelfAccess::KeySelfOnly && kind == SecretKind::Key {
        // The path names another key.
        return Verdict::Refuse(403, "credential_kind_not_allowed");
    }
    // A route that names neither an item nor a project only shows the caller's own data.
    let foreign = if !names_item(operation) && !names_project(operation) {
        Verdict::Pass
    } else {
        Verdict::Refuse(404, "not_found")
    };
    match who {
        CallerKind::Session(role) if owner && role != Role::Owner => Verdict::Refuse(403, "insufficient_scope"),
        CallerKind::Session(role) if !role.scopes().contains_any(scopes) => Verdict::Refuse(403, "insufficient_scope"),
        CallerKind::NarrowKey | CallerKind::NarrowToken if !scopes.contains(&NARROW) => {
            Verdict::Refuse(403, "insufficient_scope")
        }
        CallerKind::Stranger => foreign,
        CallerKind::ForeignKey if names_item(operation) || in_body(operation) => Verdict::Refuse(404, "not_found"),
        _ => Verdict::Pass,
    }
}

/// Whether the path names an item of a project. Providers and kinds are the same for every project.
fn names_item(operation: &Operation) -> bool {
    operation.path.contains("_id}")
}

fn names_project(operation: &Operation) -> bool {
    in_query(operation) || in_body(operation)
}

fn in_query(operation: &Operation) -> bool {
    operation.query.is_some_and(|rules| rules.properties().contains_key("project_id"))
}

/// Whether the body names the project, as it does for collections. For an item, the item's own project decides.
pub fn in_body(operation: &Operation) -> bool {
    document::body_schema(operation).is_some_and(|schema| schema["properties"].get("project_id").is_some())
}

/// One project with an item for every path parameter.
pub struct Fixture<'a> {
    pub owner: Session<'a>,
    stranger: Session<'a>,
    members: Vec<(Role, Session<'a>)>,
    pub key: Key<'a>,
    narrow_key: Key<'a>,
    token: Token<'a>,
    narrow_token: Token<'a>,
    foreign_key: Key<'a>,
    suspended_key: Key<'a>,
    suspended_token: Token<'a>,
}

impl<'a> Fixture<'a> {
    pub async fn new(app: &'a TestApp) -> Self {
        let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        let (owner, stranger) = (app.owner().await, app.owner().await);
        let mut members = Vec::new();
        for role in [Role::Viewer, Role::Member, Role::Admin, Role::Owner] {
            members.push((role, app.member(&owner, role).await));
        }
        let key = owner.key_with(json!({ "scopes": all })).await;
        let elsewhere = app.owner().await;
        let suspended_key = elsewhere.key_with(json!({ "scopes": all })).await;
        let suspended_token = suspended_key.token(&all).await;
        elsewhere.post_empty(&format!("/v1/projects/{}/suspend", elsewhere.project)).await.ok();
        Self {
            suspended_key,
            suspended_token,
            narrow_key: owner.key_with(json!({ "scopes": [NARROW] })).await,
            token: key.token(&all).await,
            narrow_token: key.token(&[NARROW.as_str()]).await,
            foreign_key: stranger.key_with(json!({ "scopes": all })).await,
            owner,
            stranger,
            members,
            key,
        }
    }

    /// The path with IDs of new items.
    pub async fn path(&self, operation: &Operation, who: CallerKind) -> String {
        self.path_of(operation, who, &self.new_items(operation).await)
    }

    /// New items for the parameters of the operation's path that are not [`OF_FIXTURE`].
    async fn new_items(&self, operation: &Operation) -> BTreeMap<&'static str, String> {
        let mut new: BTreeMap<&str, String> = BTreeMap::new();
        for name in parameters(operation).filter(|name| !OF_FIXTURE.contains(name)) {
            let id = match name {
                "token_id" => self.key.token(&["users:read"]).await.id,
                "delivery_id" => insert_delivery(&self.owner, &new["webhook_id"]).await,
                "resource_id" => insert_network(&self.owner).await,
                "operation_id" => insert_operation(self.owner.app, &insert_network(&self.owner).await).await,
                other => items::item(&self.owner, other, operation.path).await,
            };
            new.insert(name, id);
        }
        new
    }

    fn path_of(&self, operation: &Operation, who: CallerKind, new: &BTreeMap<&str, String>) -> String {
        let mut path = operation.path.to_owned();
        for name in parameters(operation) {
            let id = match name {
                "project_id" => self.owner.project.clone(),
                "user_id" => self.member(Role::Member).user_id.to_string(),
                "session_id" => self.session(who).map_or_else(|| "sess_1".to_owned(), |session| session.id.clone()),
                other => new[other].clone(),
            };
            path = path.replace(&format!("{{{name}}}"), &id);
        }
        if in_query(operation) && self.session(who).is_some() {
            path = format!("{path}?project_id={}", self.owner.project);
        }
        path
    }

    fn member(&self, role: Role) -> &Session<'a> {
        self.members.iter().find(|(has, _)| *has == role).map(|(_, session)| session).unwrap()
    }

    fn session(&self, who: CallerKind) -> Option<&Session<'a>> {
        match who {
            CallerKind::Session(role) => Some(self.member(role)),
            CallerKind::Stranger => Some(&self.stranger),
            _ => None,
        }
    }

    pub async fn call(&self, app: &TestApp, operation: &Operation, who: CallerKind) -> Reply {
        let path = self.path(operation, who).await;
        self.call_at(app, operation, who, &path).await
    }

    async fn call_at(&self, app: &TestApp, operation: &Operation, who: CallerKind, path: &str) -> Reply {
        let method = operation.method.as_str();
        let request = match who {
            CallerKind::Nobody => app.anonymous().request(method, path),
            CallerKind::Session(_) | CallerKind::Stranger => self.session(who).unwrap().request(method, path),
            CallerKind::Key => self.key.request(method, path),
            CallerKind::NarrowKey => self.narrow_key.request(method, path),
            CallerKind::Token => self.token.request(method, path),
            CallerKind::NarrowToken => self.narrow_token.request(method, path),
            CallerKind::ForeignKey => self.foreign_key.request(method, path),
            CallerKind::SuspendedKey => self.suspended_key.request(method, path),
            CallerKind::SuspendedToken => self.suspended_token.request(method, path),
        };
        if operation.body.is_none() {
            return request.send().await;
        }
        // An empty update is valid and changes nothing; an empty creation is rejected with 422.
        let body = match operation.path {
            _ if in_body(operation) => json!({ "project_id": self.owner.project }),
            // `action` is required.
            "/v1/resources/{resource_id}/actions" => json!({ "action": "reboot" }),
            _ => json!({}),
        };
        request.json(&body).send().await
    }
}

/// Path parameters whose items are those of the fixture. Other items are created for calls.
const OF_FIXTURE: [&str; 3] = ["project_id", "user_id", "session_id"];

/// Whether a call may change the fixture: revoke its own credential, or delete the project.
pub fn may_change_fixture(operation: &Operation) -> bool {
    operation.method != Method::GET && parameters(operation).all(|name| OF_FIXTURE.contains(&name))
}

/// The names of the parameters in the operation's path.
fn parameters(operation: &Operation) -> impl Iterator<Item = &'static str> {
    operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// The route that names no project and lists the projects of the session's user.
const OWN_PROJECTS: (&str, &str) = ("GET", "/v1/projects");

#[tokio::test]
async fn no_route_accepts_credential_or_membership_read_from_another_postgresql_server() {
    let here = TestApp::start().await;
    let there = diverted_connections::start_peer(&here, AppOptions::default()).await;
    let fixture = Fixture::new(&here).await;
    let (known, unknown) = (there.another_session(&fixture.owner).await, there.another_session(&fixture.owner).await);
    let secrets = [&unknown.secret, &fixture.key.secret, &fixture.token.secret];
    // The server has cached this session, and must read its membership.
    known.get("/v1/sessions").await.ok();
    diverted_connections::divert_all(&there).await;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for operation in routes::table().operations() {
        if matches!(operation.policy, AccessPolicy::Public | AccessPolicy::SignIn) {
            continue;
        }
        let who = CallerKind::Session(Role::Owner);
        let path = fixture.path(operation, who).await;
        let body = if in_body(operation) { json!({ "project_id": fixture.owner.project }) } else { json!({}) };
        let send = async |secret: &str| {
            let bearer = Bearer { app: &there, secret: secret.to_owned() };
            let request = bearer.request(operation.method.as_str(), &path);
            if operation.body.is_some() { request.json(&body).send().await } else { request.send().await }
        };
        let needs_membership = names_item(operation) && matches!(operation.policy, AccessPolicy::Scoped { .. })
            || names_project(operation)
            || (operation.method.as_str(), operation.path) == OWN_PROJECTS;
        let is_known = needs_membership.then_some(&known.secret);
        for secret in secrets.into_iter().chain(is_known) {
            tried += 1;
            let reply = send(secret).await;
            if (reply.status, reply["code"].as_str()) != (503, Some("auth_unavailable")) {
                wrong.push(format!("{} {}: {} {}", operation.method, operation.path, reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn exactly_the_allowed_callers_pass_on_each_route() {
    let app = TestApp::shared().await;
    let mut wrong = Vec::new();
    let mut fixture = Fixture::new(&app).await;
    for operation in routes::table().operations() {
        let mut items = fixture.new_items(operation).await;
        for &who in ALL {
            let reply = fixture.call_at(&app, operation, who, &fixture.path_of(operation, who, &items)).await;
            if reply.status == 200 && may_change_fixture(operation) {
                fixture = Fixture::new(&app).await;
            }
            if reply.status < 300 && operation.method != Method::GET {
                items = fixture.new_items(operation).await;
            }
            let wanted = expected(operation, who);
            let fits = match wanted {
                Verdict::Pass => !matches!(reply.status, 401 | 403 | 404 | 500..),
                Verdict::Refuse(status, code) => reply.status == status && reply["code"] == code,
            };
            let cell = (operation.method.as_str(), operation.path, format!("{who:?}"));
            if fits == EXCEPTIONS.contains(&(cell.0, cell.1, cell.2.as_str())) {
                wrong.push(format!("{cell:?}: expected {wanted:?}, got {} {}", reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
