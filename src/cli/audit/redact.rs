//! `cloudapi audit redact`.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use serde_json::json;
use tokio::time::Instant;

use super::require_chain;
use crate::{
    api::webhooks,
    audit::{
        chain::checkpoint::Signer,
        model::{Draft, Target},
        read_counts, repo,
        sealing::{SealOutcome, Sealer},
        trail::{self, FoundEntry},
    },
    base::{
        action::Action,
        id::{AuditId, ProjectId},
        input::text,
        runtime::clock::Clock,
    },
    cli::{admin::by_operator, database::Database},
};

const MAX_REASON_LENGTH: usize = 500;
/// Actions of entries that the rest of the trail is verified by.
const PROTECTED_ACTIONS: [Action; 3] = [Action::AuditRedacted, Action::AuditRetentionApplied, Action::AuditCheckpoint];
/// Maximum wait until the entries are sealed.
const SEAL_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Requests the redaction of the entries, and waits until it is sealed.
pub async fn run(
    database: &Database,
    signer: Arc<Signer>,
    chain: ProjectId,
    ids: &[AuditId],
    reason: &str,
    json: bool,
) -> anyhow::Result<String> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON_LENGTH || text::check(reason).is_err() {
        bail!("--reason must have 1 to {MAX_REASON_LENGTH} characters, none of them a control character");
    }
    let (db, clock) = (&database.pool, Clock::system());
    let mut connection = db.acquire().await?;
    require_chain(&mut connection, chain).await?;
    let found = trail::find(&mut connection, chain, ids).await?;
    if let Some(missing) = ids.iter().find(|id| found.iter().all(|entry| entry.id != **id)) {
        bail!("there is no entry {missing} in this trail; nothing was redacted");
    }
    let is_protected = |entry: &&FoundEntry| {
        PROTECTED_ACTIONS.iter().any(|protected| entry.action.as_deref() == Some(protected.as_str()))
    };
    if let Some(protected) = found.iter().find(is_protected) {
        bail!("the trail is verified by {}, so it cannot be redacted; nothing was redacted", protected.id);
    }
    let request = by_operator();
    let entries = found.iter().filter(|entry| !entry.is_redacted).map(|entry| {
        let changes = [("seq".to_owned(), json!(entry.seq)), ("reason".to_owned(), json!(reason))];
        let draft =
            read_counts::draft(&request, chain, Action::AuditRedacted, changes.into_iter().collect(), clock.now());
        (chain, Draft { target: Some(Target::new(entry.id)), ..draft })
    });
    let entries: Vec<_> = entries.collect();
    if !entries.is_empty() {
        repo::stage(&mut connection, &entries).await?;
    }
    drop(connection);
    // The sealer that seals the staged entries also deletes the content. If no server runs, this process seals.
    let mut sealer = Sealer::new(db, clock, signer, Arc::default(), webhooks::repo::enqueue);
    let deadline = Instant::now() + SEAL_TIMEOUT;
    while trail::find(&mut *db.acquire().await?, chain, ids).await?.iter().any(|entry| !entry.is_redacted) {
        if Instant::now() > deadline {
            bail!(
                "the redaction was not sealed within {} s; a server completes it when it next seals the trail",
                SEAL_TIMEOUT.as_secs()
            );
        }
        if sealer.seal().await? != SealOutcome::More {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    let before = found.len() - entries.len();
    if json {
        let ids: Vec<_> = found.iter().map(|entry| json!({ "id": entry.id, "seq": entry.seq })).collect();
        return Ok(json!({ "redacted": ids, "already_redacted": before }).to_string());
    }
    let already = if before > 0 { format!(" ({before} of them were already redacted)") } else { String::new() };
    let subject = if found.len() == 1 { "1 entry is".to_owned() } else { format!("{} entries are", found.len()) };
    Ok(format!(
        "{subject} redacted{already}. The content may still be in backups, in exports, and for a while in PostgreSQL's files, until VACUUM removes it."
    ))
}
