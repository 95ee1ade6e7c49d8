//! Recognises a write that is sent again. The claim, the effect and the stored answer are one transaction:
//! a crash at any moment leaves all of them or none.

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

/// How long an answer is kept for whoever asks again.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Says of an answer that it is one given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Answers are small; this only keeps `to_bytes` from being asked for more.
const MAX_ANSWER: usize = 1 << 20;

/// A write that was claimed: whoever else sends it meanwhile is told to wait.
#[derive(Debug)]
pub(super) struct Claim {
    scope: String,
    key: IdempotencyKey,
    fingerprint: [u8; 32],
}

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It is the first.
    First(Claim),
    /// It was answered before, and recalled what this number of the log tells, on this server.
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
                "This Idempotency-Key was used for another request in the last 24 hours; send each write with a key of its own",
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
    let what = location.and_then(|location| location.rsplit('/').next()).unwrap_or("something");
    Error::new(
        Code::IdempotencyReplaySealed,
        format!(
            "This was done before, and made {what}; its secret was shown to a credential of yours whose own secret has changed since. If it is lost, rotate or revoke {what} and make another"
        ),
    )
}

impl Claim {
    /// The claim to the write that `request` asks for with this body, if it carries a key.
    pub(super) fn of(request: &RequestContext, body: Option<&Value>) -> Result<Option<Self>> {
        let Some(intent) = request.intent.get() else { return Ok(None) };
        let (scope, key) = (scope_of(request)?, intent.key.clone());
        Ok(Some(Self { scope, key, fingerprint: intent.fingerprint(body) }))
    }

    /// `call`, if nobody has made this claim.
    pub(super) fn guard(&self, call: Call, now: Timestamp) -> Call {
        call.if_first("claim_idempotency", |call| {
            call.bind(self.lock()).bind(&self.scope).bind(self.key.hash()).bind(now.minus(RETENTION))
        })
    }

    /// What asks for it, until the transaction ends.
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

    /// What became of it, in the transaction that `db` is in.
    pub(super) async fn judge(
        self,
        node: &Node,
        db: &mut PgConnection,
        rows: &[PgRow],
        secret: Option<&Secret>,
    ) -> Result<Claimed> {
        let row = rows.first().ok_or_else(|| Error::internal("a claim without an answer"))?;
        match row.try_get(0)? {
            "first" => return Ok(Claimed::First(self)),
            AGAIN => {}
            _ => return Err(in_progress()),
        }
        // Verified: a server that was replaced as primary may show a write whose commit was never replicated.
        let Stamped { stamp, value: record } =
            node.verified_in_transaction(db, record_of(self.scope.clone(), self.key.hash())).await?;
        let record = record.ok_or_else(just_forgotten)?;
        let recall = record.recall_seq.map(|seq| Stamp { seq, ..stamp });
        record.replay(&self, secret).map(|answer| Claimed::Again(answer, recall))
    }

    /// The advisory lock's number; two writes that share one by chance only wait for each other.
    fn lock(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(&self.scope);
        hash.update([0]);
        hash.update(self.key.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// `answer`, and what is to be kept of it for whoever sends the write again.
    pub(super) async fn keep(self, request: &RequestContext, answer: Response) -> Result<(Response, Kept)> {
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, MAX_ANSWER).await.map_err(Error::internal)?;
        let text = |name: HeaderName| head.headers.get(name)?.to_str().ok().map(str::to_owned);
        let cache_control = text(header::CACHE_CONTROL);
        // What no cache may keep shows a secret.
        let (salt, kept) = match cache_control {
            None => (None, body.to_vec()),
            Some(_) => {
                let secret =
                    request.secret.get().ok_or_else(|| Error::internal("a write without a secret to seal to"))?;
                let (salt, sealed) = seal::seal(secret, &self.key, &self.fingerprint, &body)
                    .ok_or_else(|| Error::internal("an answer could not be sealed"))?;
                (Some(salt), sealed)
            }
        };
        let status = i32::from(head.status.as_u16());
        let (location, etag) = (text(header::LOCATION), text(header::ETAG));
        let kept = Kept { claim: self, status, location, etag, cache_control, body: kept, salt };
        Ok((Response::from_parts(head, Body::from(body)), kept))
    }
}

/// Reads a record, which nobody else changes while the claim is held.
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

/// What is kept of an answer.
#[derive(Debug)]
pub(super) struct Kept {
    /// The claim that it answers.
    pub(super) claim: Claim,
    status: i32,
    location: Option<String>,
    etag: Option<String>,
    cache_control: Option<String>,
    body: Vec<u8>,
    salt: Option<Salt>,
}

impl Kept {
    /// What keeps it, and recalls what rests on `recalled`.
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

    /// `call`, which keeps it too, and recalls nothing.
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

/// What a claim says when the write was done before.
pub(super) const AGAIN: &str = "again";

/// The answer to a write that is being done.
pub(super) fn in_progress() -> Error {
    Error::new(
        Code::IdempotencyInProgress,
        "A request with this Idempotency-Key is being served; wait a moment, and send it again to get its answer",
    )
    .retry_after(1)
}

/// The answer to a write whose record has gone between two looks at it.
pub(super) fn just_forgotten() -> Error {
    Error::new(Code::Overloaded, "This answer was just being forgotten; send the request again")
}

/// Whose keys these are: a key's or token's own, a user's whichever session they use.
fn scope_of(request: &RequestContext) -> Result<String> {
    match request.caller.get().map(|caller| &**caller) {
        Some(Caller::Session { user_id, .. }) => Ok(user_id.to_string()),
        Some(caller) => Ok(caller.credential_id().to_string()),
        None => Err(Error::internal("a write with an Idempotency-Key that nobody has sent")),
    }
}

/// Forgets answers that nobody may ask for any more, a batch at a time; gives how many it forgot. Passes by
/// what a write has locked, so that it holds up none.
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
