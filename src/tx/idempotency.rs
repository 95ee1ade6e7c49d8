//! Recognition of repeated writes. The claim, the effect and the stored response are one transaction, so a crash leaves
//! all of them or none.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    open::{Literal, Sql},
    seal::{self, Salt},
};
use crate::{
    auth::{
        node::{Node, texts},
        verified::Read,
    },
    base::{
        caller::Caller,
        clock::Timestamp,
        error::{Code, Error, Result},
        intent::IdempotencyKey,
        request::RequestContext,
        secret::Secret,
        subject::Subject,
    },
    db::{Call, Stamp, Stamped},
};

/// Retention of stored responses.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Header of replayed responses.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Bound for `to_bytes`. Responses are small.
const MAX_ANSWER: usize = 1 << 20;

/// Claim of a write. Concurrent requests with the same key are refused until the write ends.
#[derive(Debug)]
pub(super) struct Claim {
    scope: String,
    key: IdempotencyKey,
    fingerprint: [u8; 32],
}

/// Result of a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The first request with this key.
    First(Claim),
    /// The stored response, and the position at which the first request invalidated credentials, on this server.
    Again(Response, Option<Stamp>),
}

#[derive(sqlx::FromRow)]
struct Record {
    fingerprint: Vec<u8>,
    status: i16,
    location: Option<String>,
    etag: Option<String>,
    cache_control: Option<String>,
    body: Vec<u8>,
    salt: Option<Vec<u8>>,
    recall_seq: Option<i64>,
}

impl Record {
    fn replay(self, claim: &Claim, secret: Option<&Secret>) -> Result<Response> {
        if self.fingerprint != claim.fingerprint {
            return Err(Error::new(
                Code::IdempotencyKeyReused,
                "This Idempotency-Key was used for another request in the last 24 hours; use a new key for each write",
            ));
        }
        let body = match &self.salt {
            None => self.body,
            Some(salt) => secret
                .and_then(|secret| seal::open(secret, salt, &claim.key, &claim.fingerprint, &self.body))
                .ok_or_else(|| sealed(self.location.as_deref()))?,
        };
        let status = u16::try_from(self.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let mut response = (status.unwrap_or(StatusCode::OK), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        for (name, value) in
            [(header::LOCATION, self.location), (header::ETAG, self.etag), (header::CACHE_CONTROL, self.cache_control)]
        {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(response)
    }
}

fn sealed(location: Option<&str>) -> Error {
    let what = location.and_then(|location| location.rsplit('/').next()).unwrap_or("an object");
    Error::new(
        Code::IdempotencyReplaySealed,
        format!(
            "This write was executed before and created {what}; its secret was returned to a credential of yours whose bearer secret has changed since. If it is lost, rotate or revoke {what} and create another"
        ),
    )
}

impl Claim {
    /// Creates the claim for `request` with this body, if the request has an `Idempotency-Key`.
    pub(super) fn of(request: &RequestContext, body: Option<&Value>) -> Result<Option<Self>> {
        let Some(intent) = request.intent.get() else { return Ok(None) };
        let (scope, key) = (scope_of(request)?, intent.key.clone());
        Ok(Some(Self { scope, key, fingerprint: intent.fingerprint(body) }))
    }

    /// Makes `call` conditional on this claim.
    pub(super) fn guard(&self, call: Call, now: Timestamp) -> Call {
        call.if_first("claim_idempotency", |call| {
            call.bind(self.lock()).bind(&self.scope).bind(self.key.hash()).bind(now.minus(RETENTION))
        })
    }

    /// SQL that claims the key until the transaction ends.
    pub(super) fn sql(&self, now: Timestamp) -> Sql {
        let since = now.minus(RETENTION).to_string();
        let arguments = [
            Literal::Number(self.lock()),
            Literal::Text(&self.scope),
            Literal::Bytes(&self.key.hash()),
            Literal::Text(&since),
        ];
        Sql::call("claim_idempotency", &arguments)
    }

    /// Determines the result of the claim, in the transaction of `db`.
    pub(super) async fn judge(
        self,
        node: &Node,
        db: &mut PgConnection,
        rows: &[PgRow],
        secret: Option<&Secret>,
    ) -> Result<Claimed> {
        let row = rows.first().ok_or_else(|| Error::internal("a claim without a result"))?;
        match row.try_get(0)? {
            "first" => return Ok(Claimed::First(self)),
            AGAIN => {}
            _ => return Err(in_progress()),
        }
        // A verified read: an old primary may show a write whose commit was never replicated.
        let Stamped { stamp, value: record } =
            node.verified_in_transaction(db, record_of(self.scope.clone(), self.key.hash())).await?;
        let record = record.ok_or_else(just_forgotten)?;
        let recall = record.recall_seq.map(|seq| Stamp { seq, ..stamp });
        record.replay(&self, secret).map(|answer| Claimed::Again(answer, recall))
    }

    /// Number of the advisory lock. Two writes that share it by chance only wait for each other.
    fn lock(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(&self.scope);
        hash.update([0]);
        hash.update(self.key.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns `answer`, and the response to store.
    pub(super) async fn keep(self, request: &RequestContext, answer: Response) -> Result<(Response, Kept)> {
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, MAX_ANSWER).await.map_err(Error::internal)?;
        let text = |name: HeaderName| head.headers.get(name)?.to_str().ok().map(str::to_owned);
        let cache_control = text(header::CACHE_CONTROL);
        // A response that must not be cached contains a secret.
        let (salt, kept) = match cache_control {
            None => (None, body.to_vec()),
            Some(_) => {
                let secret =
                    request.secret.get().ok_or_else(|| Error::internal("a write without a secret to seal to"))?;
                let (salt, sealed) = seal::seal(secret, &self.key, &self.fingerprint, &body)
                    .ok_or_else(|| Error::internal("a response could not be sealed"))?;
                (Some(salt), sealed)
            }
        };
        let status = i32::from(head.status.as_u16());
        let (location, etag) = (text(header::LOCATION), text(header::ETAG));
        let kept = Kept { claim: self, status, location, etag, cache_control, body: kept, salt };
        Ok((Response::from_parts(head, Body::from(body)), kept))
    }
}

/// Reads a record. While the claim is held, no other write changes it.
fn record_of(scope: String, key_hash: [u8; 32]) -> impl Read<Option<Record>> {
    move |db| {
        sqlx::query_as(
            "SELECT a.seq AS auth_seq, auth_server() AS auth_server, r.scope IS NOT NULL AS is_found,
                    r.fingerprint, r.status, r.location, r.etag, r.cache_control, r.body, r.salt, r.recall_seq
             FROM auth_clock a LEFT JOIN idempotency_records r ON r.scope = $1 AND r.key_hash = $2",
        )
        .bind(scope.clone())
        .bind(key_hash)
        .fetch_one(db)
        .boxed()
    }
}

/// Stored response.
#[derive(Debug)]
pub(super) struct Kept {
    /// Claim that the response belongs to.
    pub(super) claim: Claim,
    status: i32,
    location: Option<String>,
    etag: Option<String>,
    cache_control: Option<String>,
    body: Vec<u8>,
    salt: Option<Salt>,
}

impl Kept {
    /// SQL that stores the response, and invalidates cache entries that depend on `recalled`.
    pub(super) fn sql(&self, recalled: &[Subject], now: Timestamp) -> Sql {
        let arguments = [
            Literal::Text(&self.claim.scope),
            Literal::Bytes(&self.claim.key.hash()),
            Literal::Bytes(&self.claim.fingerprint),
            Literal::Number(self.status.into()),
            Literal::text(self.location.as_deref()),
            Literal::text(self.etag.as_deref()),
            Literal::text(self.cache_control.as_deref()),
            Literal::Bytes(&self.body),
            self.salt.as_ref().map_or(Literal::Null, |salt| Literal::Bytes(salt)),
            Literal::Text(&now.to_string()),
            Literal::Texts(&texts(recalled)),
        ];
        Sql::call_stamped("keep_answer", &arguments)
    }

    /// Extends `call` so that it also stores the response, and invalidates nothing.
    pub(super) fn kept_by(&self, call: Call, now: Timestamp) -> Call {
        call.then("keep_answer", |call| {
            call.bind(&self.claim.scope)
                .bind(self.claim.key.hash())
                .bind(self.claim.fingerprint)
                .bind(self.status)
                .bind(&self.location)
                .bind(&self.etag)
                .bind(&self.cache_control)
                .bind(&self.body)
                .bind(self.salt)
                .bind(now)
                .bind(None::<i64>)
        })
    }
}

/// Result of a claim if the write was executed before.
pub(super) const AGAIN: &str = "again";

/// Error for a write that is in progress.
pub(super) fn in_progress() -> Error {
    Error::new(
        Code::IdempotencyInProgress,
        "A request with this Idempotency-Key is in progress; wait a moment, and send it again to get its response",
    )
    .retry_after(1)
}

/// Error for a write whose record expired between two reads.
pub(super) fn just_forgotten() -> Error {
    Error::new(Code::Overloaded, "The stored response has just expired; send the request again")
}

/// Scope of idempotency keys: the key or token, or for sessions the user.
fn scope_of(request: &RequestContext) -> Result<String> {
    match request.caller.get().map(|caller| &**caller) {
        Some(Caller::Session { user_id, .. }) => Ok(user_id.to_string()),
        Some(caller) => Ok(caller.credential_id().to_string()),
        None => Err(Error::internal("a write with an Idempotency-Key but without a caller")),
    }
}

/// Removes a batch of expired responses. Returns their number. Skips rows that a write has locked, so that it blocks no
/// write.
pub async fn forget_old(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(
        "DELETE FROM idempotency_records WHERE (scope, key_hash) IN (
             SELECT scope, key_hash FROM idempotency_records WHERE created_at <= $1
             ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now.minus(RETENTION))
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}
