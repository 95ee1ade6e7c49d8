//! Every route × every kind of caller, generated from the route table: exactly the allowed cells
//! pass. A new route is tried without anyone remembering.

use cloudapi::{
    base::{
        need::{Itself, Need},
        role::Role,
        scope::Scope,
        secret::SecretKind,
    },
    http::describe::Operation,
    routes,
    state::AppOptions,
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Bearer, Identity, Key, Reply, Session, TestApp, Token,
    cloud::{quiet_network, quiet_operation},
    document, elsewhere,
    hooks::{old_delivery, quiet_webhook},
};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Nobody,
    /// A member of the project, in this role.
    Session(Role),
    /// The owner of another project.
    Stranger,
    /// A key with every scope, and one with none but [`NARROW`].
    Key,
    NarrowKey,
    /// A token with every scope, and one with as little.
    Token,
    NarrowToken,
    /// Another project's key, with every scope.
    ForeignKey,
    /// The credentials of a suspended project, with every scope.
    SuspendedKey,
    SuspendedToken,
}

/// The one scope of narrow credentials, which few routes need.
const NARROW: Scope = Scope::TokensIntrospect;

const ALL: &[Who] = &[
    Who::Nobody,
    Who::Session(Role::Viewer),
    Who::Session(Role::Member),
    Who::Session(Role::Admin),
    Who::Session(Role::Owner),
    Who::Stranger,
    Who::Key,
    Who::NarrowKey,
    Who::Token,
    Who::NarrowToken,
    Who::ForeignKey,
    Who::SuspendedKey,
    Who::SuspendedToken,
];

/// What the contract says of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Let through: whatever comes of it, it is neither 401 nor 403 nor a 404.
    Pass,
    Refuse(u16, &'static str),
}

/// Cells that answer otherwise than [`expected`] derives, each with its reason. This list may only
/// shrink.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

fn expected(operation: &Operation, who: Who) -> Verdict {
    let Need::Scoped { scopes, kinds, itself, owner } = operation.need else {
        return match (operation.need, who) {
            (Need::Public | Need::SignIn, _) | (_, Who::Session(_) | Who::Stranger) => Verdict::Pass,
            (_, Who::Nobody) => Verdict::Refuse(401, "missing_credentials"),
            _ => Verdict::Refuse(403, "credential_kind_not_allowed"),
        };
    };
    let kind = match who {
        Who::Nobody => return Verdict::Refuse(401, "missing_credentials"),
        Who::Session(_) | Who::Stranger => SecretKind::Session,
        Who::Key | Who::NarrowKey | Who::ForeignKey | Who::SuspendedKey => SecretKind::Key,
        Who::Token | Who::NarrowToken | Who::SuspendedToken => SecretKind::Token,
    };
    if !kinds.contains(&kind) {
        return Verdict::Refuse(403, "credential_kind_not_allowed");
    }
    if matches!(who, Who::SuspendedKey | Who::SuspendedToken) {
        return Verdict::Refuse(403, "project_suspended");
    }
    if itself == Itself::KeyOnlyItself && kind == SecretKind::Key {
        // The key that is named is another one.
        return Verdict::Refuse(403, "credential_kind_not_allowed");
    }
    // What names nothing of the project has nothing foreign in it, only the caller's own.
    let foreign = if !names_item(operation) && !names_project(operation) {
        Verdict::Pass
    } else {
        Verdict::Refuse(404, "not_found")
    };
    match who {
        Who::Session(role) if owner && role != Role::Owner => Verdict::Refuse(403, "insufficient_scope"),
        Who::Session(role) if !role.scopes().contains_any(scopes) => Verdict::Refuse(403, "insufficient_scope"),
        Who::NarrowKey | Who::NarrowToken if !scopes.contains(&NARROW) => Verdict::Refuse(403, "insufficient_scope"),
        Who::Stranger => foreign,
        Who::ForeignKey if names_item(operation) || in_body(operation) => Verdict::Refuse(404, "not_found"),
        _ => Verdict::Pass,
    }
}

/// Whether the path names something of a project's. Providers and kinds are the same for all.
fn names_item(operation: &Operation) -> bool {
    operation.path.contains("_id}")
}

fn names_project(operation: &Operation) -> bool {
    in_query(operation) || in_body(operation)
}

fn in_query(operation: &Operation) -> bool {
    operation.query.is_some_and(|rules| rules.properties().contains_key("project_id"))
}

/// A collection's body names the project; an item's own project decides.
fn in_body(operation: &Operation) -> bool {
    document::body_schema(operation).is_some_and(|schema| schema["properties"].get("project_id").is_some())
}

/// One project with everything in it that a path can name.
pub struct World<'a> {
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

impl<'a> World<'a> {
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

    /// The path with ids of things made for this one call, so that a cell can destroy what it names.
    pub async fn path(&self, operation: &Operation, who: Who) -> String {
        let mut path = operation.path.to_owned();
        for name in operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let id = match name {
                "project_id" => self.owner.project.clone(),
                "key_id" => self.owner.key().await.id,
                "token_id" => self.key.token(&["users:read"]).await.id,
                "user_id" => self.member(Role::Member).user_id.to_string(),
                "session_id" => self.session(who).map_or_else(|| "sess_1".to_owned(), |session| session.id.clone()),
                "webhook_id" => quiet_webhook(&self.owner).await,
                "delivery_id" => old_delivery(&self.owner, path.split('/').nth(3).unwrap()).await,
                "resource_id" => quiet_network(&self.owner).await,
                "operation_id" => quiet_operation(self.owner.app, &quiet_network(&self.owner).await).await,
                "name" => "sim".to_owned(),
                "kind" => "storage.volume".to_owned(),
                "code" => "not_found".to_owned(),
                "file" => "docs.css".to_owned(),
                "guide" => "webhooks".to_owned(),
                other => panic!("a path names {{{other}}}; make one here"),
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

    fn session(&self, who: Who) -> Option<&Session<'a>> {
        match who {
            Who::Session(role) => Some(self.member(role)),
            Who::Stranger => Some(&self.stranger),
            _ => None,
        }
    }

    pub async fn call(&self, app: &TestApp, operation: &Operation, who: Who) -> Reply {
        let path = self.path(operation, who).await;
        let method = operation.method.as_str();
        let request = match who {
            Who::Nobody => app.nobody().request(method, &path),
            Who::Session(_) | Who::Stranger => self.session(who).unwrap().request(method, &path),
            Who::Key => self.key.request(method, &path),
            Who::NarrowKey => self.narrow_key.request(method, &path),
            Who::Token => self.token.request(method, &path),
            Who::NarrowToken => self.narrow_token.request(method, &path),
            Who::ForeignKey => self.foreign_key.request(method, &path),
            Who::SuspendedKey => self.suspended_key.request(method, &path),
            Who::SuspendedToken => self.suspended_token.request(method, &path),
        };
        if operation.body.is_none() {
            return request.send().await;
        }
        // An update without members changes nothing and is valid; a creation gets to its 422.
        let body = match operation.path {
            _ if in_body(operation) => json!({ "project_id": self.owner.project }),
            // There is no action that is none.
            "/v1/resources/{resource_id}/actions" => json!({ "action": "reboot" }),
            _ => json!({}),
        };
        request.json(&body).send().await
    }
}

/// Routes that name no project and show those of the session's user.
const OWN_PROJECTS: (&str, &str) = ("GET", "/v1/projects");

#[tokio::test]
async fn no_route_accepts_a_credential_or_a_membership_that_another_postgresql_server_vouches_for() {
    let here = TestApp::start().await;
    let there = elsewhere::start_beside(&here, AppOptions::default()).await;
    let world = World::new(&here).await;
    let (known, unknown) = (there.another_session(&world.owner).await, there.another_session(&world.owner).await);
    let secrets = [&unknown.secret, &world.key.secret, &world.token.secret];
    // The server knows this session, and has to read its membership.
    known.get("/v1/sessions").await.ok();
    elsewhere::mislead(&there).await;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for operation in routes::table().operations() {
        if matches!(operation.need, Need::Public | Need::SignIn) {
            continue;
        }
        let who = Who::Session(Role::Owner);
        let path = world.path(operation, who).await;
        let body = if in_body(operation) { json!({ "project_id": world.owner.project }) } else { json!({}) };
        let send = async |secret: &str| {
            let bearer = Bearer { app: &there, secret: secret.to_owned() };
            let request = bearer.request(operation.method.as_str(), &path);
            if operation.body.is_some() { request.json(&body).send().await } else { request.send().await }
        };
        let needs_membership = names_item(operation) && matches!(operation.need, Need::Scoped { .. })
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
async fn exactly_the_allowed_cells_of_routes_and_callers_pass() {
    let app = TestApp::start().await;
    let mut wrong = Vec::new();
    let mut world = World::new(&app).await;
    for operation in routes::table().operations() {
        for &who in ALL {
            let reply = world.call(&app, operation, who).await;
            if operation.method != Method::GET && reply.status == 200 {
                // It may have ended the credential that it was tried with, or the project.
                world = World::new(&app).await;
            }
            let wanted = expected(operation, who);
            let fits = match wanted {
                Verdict::Pass => !matches!(reply.status, 401 | 403 | 404 | 500..),
                Verdict::Refuse(status, code) => reply.status == status && reply["code"] == code,
            };
            let cell = (operation.method.as_str(), operation.path, format!("{who:?}"));
            if fits == EXCEPTIONS.contains(&(cell.0, cell.1, cell.2.as_str())) {
                wrong.push(format!("{cell:?}: {wanted:?}, but {} {}", reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
