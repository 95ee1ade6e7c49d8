//! Example data of the published reference, so that its examples work on a first start.

use std::sync::Arc;

use crate::{
    api::{
        keys::{
            self,
            model::{StoredKey, default_scopes, stored_scopes},
        },
        projects::{self, model::NewProject},
        tokens::{self, model::Issuer, repo::TokenRow},
        users::{self, model::MemberStatus},
    },
    base::{
        action::Action,
        id::{KeyId, ProjectId, TokenId, UserId},
        identity::{
            role::Role,
            scope::{Scope, ScopeSet},
            secret::{Secret, SecretKind},
            tenant::Tenant,
        },
        input::email::Email,
        runtime::request::RequestContext,
    },
    server::state::App,
    tx::Change,
};

/// ID of the demo project.
pub const PROJECT: ProjectId = ProjectId::from_u128(0x8f2c4);
/// User ID of the demo project's owner.
pub const OWNER: UserId = UserId::from_u128(0x8f1);
const ADMIN: UserId = UserId::from_u128(0x8f2);
const SPARE_KEY: KeyId = KeyId::from_u128(0x7d1);
const WORKING_KEY: KeyId = KeyId::from_u128(0x7d0);
const TOKEN: TokenId = TokenId::from_u128(0x2c9);

/// Email address of the demo project's owner.
pub const OWNER_EMAIL: &str = "ada@example.com";
const ADMIN_EMAIL: &str = "grace@example.com";

/// Loads the example data into a database without projects and users.
pub async fn load_if_empty(app: &App) -> anyhow::Result<()> {
    let request = Arc::new(RequestContext::system());
    let mut tx = app.store.writes.begin(&request).await?;
    if !projects::repo::is_empty(tx.db()).await? {
        return Ok(());
    }
    let now = app.store.clock.now();
    let db = tx.db();
    let new = NewProject { name: "Core Platform".into(), metadata: None };
    let (call, project) = projects::repo::create(PROJECT, new, now);
    call.execute(db).await?;
    for (id, email, role) in [(OWNER, OWNER_EMAIL, Role::Owner), (ADMIN, ADMIN_EMAIL, Role::Admin)] {
        let email: Email = email.parse()?;
        users::repo::find_or_insert(db, id, &email, now).await?;
        users::repo::insert_member(db, PROJECT, id, role, MemberStatus::Active, now).await?;
    }
    // Nobody sees the secrets of these two: the key exists to be revoked, the token to be read.
    for (id, name) in [(WORKING_KEY, "issuer of ci-token"), (SPARE_KEY, "spare")] {
        let secret = Secret::generate(SecretKind::Key);
        let key = StoredKey {
            name: name.into(),
            scopes: stored_scopes(default_scopes()),
            created_by: Some(OWNER),
            ..StoredKey::new(id, PROJECT, &secret, now)
        };
        keys::repo::create(&key, &secret).execute(db).await?;
    }
    let token = TokenRow {
        id: TOKEN,
        name: "ci-token".into(),
        scopes: [Scope::UsersRead, Scope::UsageRead].into_iter().collect(),
        issuer: Issuer::Key(WORKING_KEY),
        created_at: now,
        expires_at: now.plus(std::time::Duration::from_secs(tokens::model::DEFAULT_LIFETIME_SECONDS.into())),
    };
    let tenant = Tenant::from_credential(PROJECT, ScopeSet::all());
    let (call, _) = tokens::repo::issue(tenant, token, &Secret::generate(SecretKind::Token));
    call.execute(tx.db()).await?;
    tx.commit(Change::new(Action::DemoLoaded, project.id, Some(project.id)).created(&project), ()).await?;
    Ok(())
}

/// Reports whether the demo project exists.
pub async fn is_loaded(app: &App) -> anyhow::Result<bool> {
    let mut db = app.store.db.acquire().await?;
    let tenant = Tenant::from_credential(PROJECT, ScopeSet::all());
    Ok(projects::repo::get(&mut db, tenant).await?.is_some_and(|project| project.name == "Core Platform"))
}
