//! Looks up many secrets in the database with one statement.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use sqlx::PgConnection;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    auth::{bearer::Authenticator, credentials::sessions::IDLE_TIMEOUT, revocation::verified::unreachable_database},
    base::{
        error::Result,
        identity::secret::{SecretHash, SecretKind},
        runtime::clock::Timestamp,
    },
    db::Stamped,
};

/// Minimum time between the starts of two batches.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of secrets in a batch. The others wait for the next one.
const MAX_BATCH: usize = 1000;

/// Result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// A credential with this secret exists and is valid.
    Active,
    /// A credential with this secret exists, and it expired or was revoked.
    Ended,
    /// No credential has this secret.
    Unknown,
}

/// The batches of one node. One batch runs at a time. The limit of concurrent requests also limits the number of
/// waiters.
#[derive(Debug, Default)]
pub struct Batches {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    is_running: bool,
    last: Option<Instant>,
}

type Waiting = HashMap<SecretHash, (SecretKind, Vec<oneshot::Sender<LookupResult>>)>;

impl Batches {
    /// Looks up one secret in the next batch, which begins after this call.
    pub async fn look_up(
        &self,
        authenticator: &Authenticator,
        kind: SecretKind,
        hash: SecretHash,
    ) -> Result<LookupResult> {
        let (sender, receiver) = oneshot::channel();
        let is_first = {
            let mut state = self.shared.lock();
            state.waiting.entry(hash).or_insert_with(|| (kind, Vec::new())).1.push(sender);
            !std::mem::replace(&mut state.is_running, true)
        };
        if is_first {
            // A separate task, so that a client that disconnects does not cancel a batch that others wait for.
            tokio::spawn(run(Arc::clone(&self.shared), authenticator.clone()));
        }
        receiver.await.map_err(|_| unreachable_database())
    }

    /// Number of batches so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that runs batches. If it panics, the waiting requests get an error, and the next request starts a new task.
struct Running {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done {
            let mut state = self.shared.lock();
            state.is_running = false;
            state.waiting.clear();
        }
    }
}

async fn run(shared: Arc<Shared>, authenticator: Authenticator) {
    let mut running = Running { shared: Arc::clone(&shared), is_done: false };
    loop {
        let last = shared.lock().last;
        if let Some(last) = last {
            sleep_until(last + INTERVAL).await;
        }
        let batch: Waiting = {
            let mut state = shared.lock();
            if state.waiting.is_empty() {
                // Under the lock: a request that arrives now starts the next task.
                state.is_running = false;
                running.is_done = true;
                return;
            }
            state.last = Some(Instant::now());
            state.waiting.extract_if(|_, _| true).take(MAX_BATCH).collect()
        };
        shared.count.fetch_add(1, Ordering::Relaxed);
        match read(&authenticator, &batch).await {
            Ok(results) => send_results(batch, &results),
            // Dropping the senders reports an error to the waiting requests.
            Err(error) => tracing::debug!(%error, "credential batch lookup failed"),
        }
    }
}

/// Sends the results to the waiting requests. A secret without a row is unknown.
fn send_results(batch: Waiting, results: &HashMap<SecretHash, LookupResult>) {
    for (hash, (_, senders)) in batch {
        let result = results.get(&hash).copied().unwrap_or(LookupResult::Unknown);
        for sender in senders {
            // Fails if the client has disconnected.
            let _ = sender.send(result);
        }
    }
}

/// Hashes of secrets, by kind of credential.
#[derive(Debug)]
struct Secrets {
    keys: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
    sessions: Vec<Vec<u8>>,
}

/// A secret that exists.
#[derive(Debug, sqlx::FromRow)]
struct SecretRow {
    secret_hash: SecretHash,
    is_live: bool,
}

async fn read(authenticator: &Authenticator, batch: &Waiting) -> Result<HashMap<SecretHash, LookupResult>> {
    let of = |kinds: &[SecretKind]| -> Vec<Vec<u8>> {
        batch.iter().filter(|(_, (of, _))| kinds.contains(of)).map(|(hash, _)| hash.as_bytes().to_vec()).collect()
    };
    let secrets = Arc::new(Secrets {
        keys: of(&[SecretKind::Key]),
        tokens: of(&[SecretKind::Token]),
        sessions: of(&[SecretKind::Session, SecretKind::Console]),
    });
    let now = authenticator.clock.now_non_decreasing();
    // A server that lags does not have the newest credentials.
    let read = authenticator.node.read_verified(move |db| {
        let secrets = Arc::clone(&secrets);
        async move { look_up_all(db, secrets, now).await }.boxed()
    });
    let (_, rows) = read.await?;
    let result = |is_live| if is_live { LookupResult::Active } else { LookupResult::Ended };
    Ok(rows.into_iter().map(|found| (found.secret_hash, result(found.is_live))).collect())
}

/// Which of these secrets exist, and whether their credentials are valid at `now`. `Authenticator` decides the same for
/// a single credential and has the final decision: this statement may err only by reporting a credential as valid.
async fn look_up_all(
    db: &mut PgConnection,
    secrets: Arc<Secrets>,
    now: Timestamp,
) -> sqlx::Result<Stamped<Vec<SecretRow>>> {
    sqlx::query_as(
        "WITH RECURSIVE chain AS (
             SELECT t.secret_hash AS shown, t.project_id, t.issuer_key_id, t.issuer_token_id, t.issuer_user_id,
                    t.issuer_membership_id, t.revoked_at, t.expires_at
             FROM unnest($2::bytea[]) AS asked (hash) CROSS JOIN LATERAL (
                 SELECT secret_hash, project_id, issuer_key_id, issuer_token_id, issuer_user_id, issuer_membership_id, revoked_at,
                        expires_at
                 FROM tokens WHERE secret_hash = asked.hash OFFSET 0) t
             UNION ALL
             SELECT c.shown, t.project_id, t.issuer_key_id, t.issuer_token_id, t.issuer_user_id,
                    t.issuer_membership_id, t.revoked_at, t.expires_at
             FROM chain c CROSS JOIN LATERAL (
                 SELECT project_id, issuer_key_id, issuer_token_id, issuer_user_id, issuer_membership_id, revoked_at, expires_at
                 FROM tokens WHERE id = c.issuer_token_id OFFSET 0) t
         )
         SELECT a.seq AS auth_seq, auth_server() AS auth_server, f.secret_hash IS NOT NULL AS is_found, f.secret_hash, f.is_live
         FROM auth_clock a LEFT JOIN (
         SELECT s.secret_hash, k.revoked_at IS NULL AND coalesce(k.expires_at > $4, true)
                                                    AND coalesce(s.expires_at > $4, true) AS is_live
         FROM unnest($1::bytea[]) AS asked (hash)
         CROSS JOIN LATERAL (SELECT secret_hash, key_id, expires_at FROM key_secrets WHERE secret_hash = asked.hash OFFSET 0) s
         CROSS JOIN LATERAL (SELECT project_id, revoked_at, expires_at FROM keys WHERE id = s.key_id OFFSET 0) k
         CROSS JOIN LATERAL (SELECT FROM projects WHERE id = k.project_id OFFSET 0) p
         UNION ALL
         SELECT c.shown, bool_or(c.issuer_token_id IS NULL)
                         AND bool_and((c.revoked_at IS NULL AND c.expires_at > $4
                                       AND (c.issuer_key_id IS NULL
                                            OR k.is_found AND k.revoked_at IS NULL AND coalesce(k.expires_at > $4, true))
                                       AND (c.issuer_user_id IS NULL OR m.is_found)) IS TRUE)
         FROM chain c
         CROSS JOIN LATERAL (SELECT FROM projects WHERE id = c.project_id OFFSET 0) p
         LEFT JOIN LATERAL (SELECT true AS is_found, revoked_at, expires_at FROM keys WHERE id = c.issuer_key_id OFFSET 0) k
                ON true
         LEFT JOIN LATERAL (SELECT true AS is_found FROM members
                            WHERE project_id = c.project_id AND user_id = c.issuer_user_id
                              AND membership_id = c.issuer_membership_id AND status = 'active' OFFSET 0) m ON true
         GROUP BY c.shown
         UNION ALL
         SELECT s.secret_hash, s.revoked_at IS NULL AND s.expires_at > $4
                               AND greatest(s.created_at, s.last_used_at) + $5 > $4
         FROM unnest($3::bytea[]) AS asked (hash)
         CROSS JOIN LATERAL (SELECT secret_hash, revoked_at, expires_at, created_at, last_used_at
                             FROM sessions WHERE secret_hash = asked.hash OFFSET 0) s
         ) f ON true",
    )
    .bind(&secrets.keys)
    .bind(&secrets.tokens)
    .bind(&secrets.sessions)
    .bind(now)
    .bind(IDLE_TIMEOUT)
    .fetch_all(db)
    .await
    .and_then(Stamped::collect)
}
