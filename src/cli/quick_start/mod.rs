//! The key, the session and the sign-in link that a server shows when it starts on a terminal. There is only one of each:
//! a start rotates the key's secret, which invalidates the previous one, and replaces the session and the link.

pub mod demo;
pub(crate) mod welcome;

use std::sync::Arc;

use sqlx::PgConnection;

use super::admin;
use crate::{
    api::{
        keys::{
            self,
            model::{KeyView, StoredKey, default_scopes, stored_scopes},
        },
        sessions,
    },
    base::{
        action::Action,
        id::{KeyId, SessionId},
        identity::{
            scope::ScopeSet,
            secret::{Secret, SecretKind},
            subject::Subject,
            tenant::Tenant,
        },
        runtime::{clock::Timestamp, request::RequestContext},
    },
    server::state::App,
    tx::{Change, Tx},
};

/// Name of the key.
const NAME: &str = "quick start";

/// Secrets to show on the terminal.
#[derive(Debug)]
pub struct QuickStart {
    /// Session of the demo project's owner.
    pub session: Secret,
    /// Key of the demo project.
    pub key: Secret,
    /// Link that signs the owner in to the console.
    pub link: Secret,
}

/// Issues a session, a key and a sign-in link for the demo project.
pub async fn credentials(app: &App) -> anyhow::Result<QuickStart> {
    let request = Arc::new(RequestContext::system());
    let now = app.store.clock.now();
    let mut tx = app.store.writes.begin(&request).await?;
    let (key, session) = latest(tx.db()).await?;
    if let Some(id) = session
        && let Some(before) = sessions::repo::revoke(tx.db(), demo::OWNER, id, now).await?
    {
        tx.invalidate(Subject::Session(id));
        tx.add_change(Change::new(Action::SessionRevoked, id, None).revoked(before));
    }
    let session = admin::issue_session(tx.db(), &demo::OWNER_EMAIL.parse()?, now).await?;
    tx.add_change(sessions::created_change(&session));
    let secret = Secret::generate(SecretKind::Key);
    let (key, change) = issue_key(&mut tx, key, &secret, now, session.expires_at).await?;
    store(tx.db(), key, session.id).await?;
    sessions::links::delete_all(tx.db(), demo::OWNER).await?;
    let link = sessions::links::issue(tx.db(), demo::OWNER, now).await?;
    tx.add_change(sessions::links::created_change(demo::OWNER));
    tx.commit(change, QuickStart { session: session.token, key: secret, link }).await.map_err(Into::into)
}

/// Rotates the secret of `key` if the key exists and is not revoked, or else creates a new key.
async fn issue_key(
    tx: &mut Tx,
    key: Option<KeyId>,
    secret: &Secret,
    now: Timestamp,
    end: Timestamp,
) -> anyhow::Result<(KeyId, Change)> {
    let tenant = Tenant::from_credential(demo::PROJECT, ScopeSet::all());
    let found = match key {
        Some(id) => keys::repo::lock(tx.db(), tenant, id).await?.filter(|key| key.revoked_at.is_none()),
        None => None,
    };
    if let Some(found) = found {
        let (id, before) = (found.id, KeyView::new(found, now));
        keys::repo::set_expires_at(tx.db(), tenant, id, end).await?;
        let after = KeyView::new(keys::repo::rotate(tx.db(), tenant, id, secret, now, now).await?, now);
        tx.invalidate(Subject::Key(id));
        return Ok((id, Change::new(Action::KeyRotated, id, Some(demo::PROJECT)).updated(&before, &after)));
    }
    let key = StoredKey {
        name: NAME.into(),
        scopes: stored_scopes(default_scopes()),
        created_by: Some(demo::OWNER),
        expires_at: Some(end),
        ..StoredKey::new(KeyId::new(), demo::PROJECT, secret, now)
    };
    keys::repo::create(&key, secret).execute(tx.db()).await?;
    let id = key.id;
    Ok((id, Change::new(Action::KeyCreated, id, Some(demo::PROJECT)).created(&KeyView::new(key, now))))
}

/// Key and session of the previous start. The row lock prevents concurrent changes until the transaction ends.
async fn latest(db: &mut PgConnection) -> sqlx::Result<(Option<KeyId>, Option<SessionId>)> {
    let found = sqlx::query_as("SELECT key_id, session_id FROM quick_start FOR UPDATE").fetch_optional(db).await?;
    Ok(found.unwrap_or_default())
}

async fn store(db: &mut PgConnection, key: KeyId, session: SessionId) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO quick_start (key_id, session_id) VALUES ($1, $2)
         ON CONFLICT (only_one) DO UPDATE SET key_id = excluded.key_id, session_id = excluded.session_id",
    )
    .bind(key)
    .bind(session)
    .execute(db)
    .await
    .map(drop)
}
