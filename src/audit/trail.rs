//! SQL that reads the trail.

use sqlx::{FromRow, PgConnection};

use super::{chain::line::SignedText, model::DEPLOYMENT};
use crate::{
    audit::view::{StoredCheckpoint, StoredEntry},
    base::{
        action::Action,
        hex,
        id::{self, AuditId, ProjectId},
        identity::tenant::Tenant,
        input::page::{Order, Page, PageRequest},
        runtime::clock::Timestamp,
    },
    db::{ProjectItem, lists::scan::Scan},
};

/// Filter for entries.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// Start of the time range, inclusive.
    pub from: Option<Timestamp>,
    /// End of the time range, exclusive.
    pub to: Option<Timestamp>,
    /// ID of the actor.
    pub actor: Option<&'a str>,
    /// Action.
    pub action: Option<Action>,
    /// ID of the target.
    pub target: Option<&'a str>,
}

/// Columns of [`StoredEntry`], by name: the columns of `*` change when a migration runs while an older server is
/// running.
macro_rules! entry_columns {
    () => {
        "project_id, id, seq, payload, action, actor_id, target_id, is_event, salt, payload_hash, prev_hash, hash"
    };
}

/// Looks up the entry of a scanned row `s`.
const LOOKUP: &str = concat!(
    "CROSS JOIN LATERAL (SELECT ",
    entry_columns!(),
    " FROM audit_entries WHERE project_id = s.project_id AND id = s.id OFFSET 0) AS e"
);
/// Columns of [`StoredEntry`] in [`LOOKUP`].
const LOOKED_UP: &str = "e.project_id, e.id, e.seq, e.payload, e.action, e.actor_id, e.target_id, e.is_event, e.salt, \
                         e.payload_hash, e.prev_hash, e.hash";

/// The lowest ID of a millisecond, which no entry has: the time in twelve digits, followed by zeros (RFC 9562 §5.7).
macro_rules! lowest_id {
    ($millis:literal) => {
        concat!(
            "(SELECT (lpad(to_hex(greatest(",
            $millis,
            ", 0)), 12, '0') || repeat('0', 20))::uuid FROM audit_chains WHERE project_id = $3)"
        )
    };
}

/// Comparison with the time of an action. Times have a single text form, in which texts sort like the times.
macro_rules! occurred {
    ($comparison:literal) => {
        concat!("(convert_from(payload, 'UTF8')::jsonb ->> 'occurred_at') COLLATE \"C\" ", $comparison)
    };
}

/// Lists the tenant's entries. Each filter and each pair of filters has an index; those of a single actor or target are
/// merged from those of each action. Entries are skipped if they do not match a third filter or the time range.
///
/// The time in an ID is the time of sealing, not of the action. The chain records the maximum difference between the
/// two, so IDs bound the scan, and the entry itself decides.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    filter: &Filter<'_>,
    page: &PageRequest<id::Audit>,
) -> sqlx::Result<Page<StoredEntry, id::Audit>> {
    let action = filter.action.map(Action::as_str);
    let given = [("target_id", "$4", filter.target), ("actor_id", "$5", filter.actor), ("action", "$6", action)];
    let mut key = vec![("project_id", "$3")];
    key.extend(given.iter().filter(|(.., value)| value.is_some()).map(|(column, parameter, _)| (*column, *parameter)));
    let merged: &[_] = if key.len() == 2 && action.is_none() { &["action"] } else { &[] };
    let conditions = [
        (key.len() == 4).then_some("action = $6"),
        filter.from.map(|_| occurred!(">= $8")),
        filter.to.map(|_| occurred!("< $10")),
    ];
    key.truncate(3);
    let (from, to) = (filter.from.is_some(), filter.to.is_some());
    // A merge reads only the index, because it reads more rows than the page has.
    let indexed = key.iter().map(|(column, _)| *column).chain(["action", "id"]).collect::<Vec<_>>().join(", ");
    let (columns, lookup, item) = match merged {
        [] => (entry_columns!(), "", ""),
        _ => (&*indexed, LOOKUP, LOOKED_UP),
    };
    let scan = Scan {
        table: "audit_entries",
        columns,
        key: &key,
        merged,
        // There are many actions.
        max_rows: if merged.is_empty() { Scan::DEFAULT.max_rows } else { 0 },
        after: match page.order {
            Order::Asc if from => concat!("greatest($1, ", lowest_id!("$7 - earliest_by"), ")"),
            Order::Desc if to => concat!("least($1, ", lowest_id!("$9 + latest_by + 1"), ")"),
            _ => "$1",
        },
        until: match page.order {
            Order::Asc if to => concat!(" AND s.id < ", lowest_id!("$9 + latest_by + 1")),
            Order::Desc if from => concat!(" AND s.id >= ", lowest_id!("$7 - earliest_by")),
            _ => "",
        },
        lookup,
        item,
        filter: &conditions.into_iter().flatten().collect::<Vec<_>>().join(" AND "),
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| {
        query
            .bind(tenant.project_id())
            .bind(filter.target)
            .bind(filter.actor)
            .bind(action)
            .bind(filter.from.map(Timestamp::unix_millis))
            .bind(filter.from.map(|time| time.to_string()))
            .bind(filter.to.map(Timestamp::unix_millis))
            .bind(filter.to.map(|time| time.to_string()))
    })
    .await
}

impl ProjectItem for id::Audit {
    const PROJECT_OF: &'static str = "SELECT project_id FROM audit_entries WHERE id = $1";
}

/// Reads an entry of the tenant.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: AuditId) -> sqlx::Result<Option<StoredEntry>> {
    let sql = concat!("SELECT ", entry_columns!(), " FROM audit_entries WHERE project_id = $1 AND id = $2");
    sqlx::query_as(sql).bind(tenant.project_id()).bind(id).fetch_optional(db).await
}

/// Beginning and end of an export.
#[derive(Debug, Default, FromRow)]
pub struct ExportRange {
    /// Number of the chain's last entry.
    pub seq: i64,
    /// Hash of the last entry; none if the chain has no entries.
    pub hash: Option<Vec<u8>>,
    anchor_seq: Option<i64>,
    anchor_hash: Option<Vec<u8>>,
    made_at: Option<Timestamp>,
    public_key: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

impl ExportRange {
    /// Number of the last entry that was removed because of its age; 0 for none.
    pub fn removed_up_to(&self) -> i64 {
        self.anchor_seq.unwrap_or(0)
    }

    /// Anchor that was signed when entries were last removed.
    pub fn anchor(&self, chain: ProjectId) -> Option<SignedText> {
        Some(SignedText {
            project_id: (chain != DEPLOYMENT).then_some(chain),
            seq: self.anchor_seq?,
            hash: hex::encode(self.anchor_hash.as_deref()?),
            made_at: self.made_at?,
            public_key: hex::encode(self.public_key.as_deref()?),
            signature: hex::encode(self.signature.as_deref()?),
        })
    }
}

/// Reads the beginning and end of a chain.
pub async fn export_range(db: &mut PgConnection, chain: ProjectId) -> sqlx::Result<ExportRange> {
    let range: Option<ExportRange> = sqlx::query_as(
        "SELECT c.seq, c.hash, a.seq AS anchor_seq, a.hash AS anchor_hash, a.made_at, a.public_key, a.signature
         FROM audit_chains c LEFT JOIN audit_anchors a USING (project_id) WHERE c.project_id = $1",
    )
    .bind(chain)
    .fetch_optional(db)
    .await?;
    Ok(range.unwrap_or_default())
}

/// Entry of an export.
#[derive(Debug, FromRow)]
pub struct ExportedEntry {
    /// Stored entry.
    #[sqlx(flatten)]
    pub entry: StoredEntry,
    /// Number up to which entries had been removed because of their age at the time of the query.
    pub removed_up_to: i64,
}

/// Reads up to `limit` entries of a chain after `after`. Uses a row comparison, as in [`Scan`]. The second comparison
/// covers only the project, so it ends the scan.
pub async fn after(
    db: &mut PgConnection,
    chain: ProjectId,
    after: AuditId,
    limit: i64,
) -> sqlx::Result<Vec<ExportedEntry>> {
    sqlx::query_as(concat!(
        "SELECT ",
        entry_columns!(),
        ",
                coalesce((SELECT seq FROM audit_anchors WHERE project_id = $1), 0) AS removed_up_to
         FROM audit_entries
         WHERE (project_id, id) > ($1, $2) AND (project_id, id) <= ($1, $4) ORDER BY project_id, id LIMIT $3"
    ))
    .bind(chain)
    .bind(after)
    .bind(limit)
    .bind(AuditId::LAST)
    .fetch_all(db)
    .await
}

/// Lists the tenant's checkpoints.
pub async fn checkpoints(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Audit>,
) -> sqlx::Result<Page<StoredCheckpoint, id::Audit>> {
    let scan = Scan {
        table: "audit_checkpoints",
        columns: "id, project_id, seq, hash, made_at, public_key, signature",
        key: &[("project_id", "$3")],
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| query.bind(tenant.project_id())).await
}

/// Short description of an entry.
#[derive(Debug, FromRow)]
pub struct FoundEntry {
    /// ID of the entry.
    pub id: AuditId,
    /// Number in the chain.
    pub seq: i64,
    /// Action; none if the entry was redacted.
    pub action: Option<String>,
    /// Whether the entry was redacted.
    pub is_redacted: bool,
}

/// Finds the entries of a chain with these IDs, in the order of the chain.
pub async fn find(db: &mut PgConnection, chain: ProjectId, ids: &[AuditId]) -> sqlx::Result<Vec<FoundEntry>> {
    sqlx::query_as(
        "SELECT id, seq, action, payload IS NULL AS is_redacted FROM audit_entries
         WHERE project_id = $1 AND id = ANY($2) ORDER BY id",
    )
    .bind(chain)
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Whether a project has a trail or will have one.
pub async fn chain_exists(db: &mut PgConnection, chain: ProjectId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM audit_chains WHERE project_id = $1) OR EXISTS (SELECT FROM projects WHERE id = $1)",
    )
    .bind(chain)
    .fetch_one(db)
    .await
}
