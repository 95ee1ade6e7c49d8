//! Removal of credentials and invitations that expired long ago.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{base::runtime::clock::Timestamp, db::delete_batch};

/// Time for which an expired credential is listed, and its secret is reported as expired instead of unknown.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes a batch of expired sessions, tokens, key secrets, invitations and sign-in links each. Returns the number of removed rows. A
/// token whose issuer was removed before it is dead.
pub async fn delete_expired(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<u64> {
    let mut removed = 0;
    for sql in [
        delete_batch!("sessions", "expires_at"),
        delete_batch!("tokens", "expires_at"),
        delete_batch!("key_secrets", "expires_at"),
        delete_batch!("invitations", "expires_at"),
        delete_batch!("sign_in_links", "expires_at"),
    ] {
        removed += sqlx::query(sql).bind(now.minus(RETENTION)).execute(&mut *db).await?.rows_affected();
    }
    Ok(removed)
}
