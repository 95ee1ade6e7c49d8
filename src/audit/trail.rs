//! SQL that reads the trail.

use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};

use super::{chain::line::SignedText, model::DEPLOYMENT};
use crate::{
    audit::view::{StoredCheckpoint, StoredEntry},
    base::{
        action::Action,
        hex,
        id::{self, AuditId, ProjectId},
        identity::tenant::Tenant,
        input::page::{Order, Page, PageRequest, keyset},
        runtime::clock::Timestamp,
    },
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

/// Maximum number of entries scanned per query when no index matches all filters.
const MAX_SCAN_ROWS: i64 = 2_000;

/// Lists the tenant's entries.
///
/// Each filter has an index in the order of the list. This query forces the planner to scan one of them, in order, from
/// the cursor. The planner does not know how many entries a project or an actor has: where it estimates wrong, it sorts
/// all of them, or scans the entries of every other project.
///
/// Therefore the scan starts at a row comparison, which only that index supports, and ends at a LIMIT. Whether an entry
/// is still within the range is decided afterwards. A second comparison would not end the scan: PostgreSQL would apply
/// it as a filter to the end of the project.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    filter: &Filter<'_>,
    page: &PageRequest<id::Audit>,
) -> sqlx::Result<Page<StoredEntry, id::Audit>> {
    let mut scan = Scan::new(tenant, filter, page);
    let mut rows = Vec::new();
    let full = usize::from(page.limit) + 1;
    loop {
        let scanned: Vec<ScannedRow> = scan.sql(full - rows.len()).build_query_as().fetch_all(&mut *db).await?;
        let last = scanned.last().filter(|last| last.is_within && last.position == scan.scan_rows);
        let next = last.map(|last| last.entry.id);
        rows.extend(scanned.into_iter().filter(|row| row.is_within && row.fits).map(|row| row.entry));
        match next {
            Some(next) if rows.len() < full => scan.after = next,
            _ => break,
        }
    }
    rows.truncate(full);
    Ok(page.page(rows, |entry: &StoredEntry| entry.id))
}

/// Scanned entry.
#[derive(FromRow)]
struct ScannedRow {
    #[sqlx(flatten)]
    entry: StoredEntry,
    /// Position in the scan, from 1.
    position: i64,
    /// Whether the entry is within the range of the list.
    is_within: bool,
    /// Whether the entry matches the filters.
    fits: bool,
}

/// Scan of one index.
struct Scan<'a> {
    tenant: Tenant,
    filter: &'a Filter<'a>,
    order: Order,
    /// Column and value that lead the index after the project.
    leading_filter: Option<(&'static str, &'a str)>,
    /// Remaining filters.
    other_filters: Vec<(&'static str, &'a str)>,
    /// Entry after which the scan continues.
    after: AuditId,
    /// Number of entries per query.
    scan_rows: i64,
}

impl<'a> Scan<'a> {
    fn new(tenant: Tenant, filter: &'a Filter<'a>, page: &PageRequest<id::Audit>) -> Self {
        let action = filter.action.map(Action::as_str);
        // The most selective filter comes first.
        let filters = [("target_id", filter.target), ("actor_id", filter.actor), ("action", action)];
        let mut filters = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
        let (leading_filter, other_filters) = (filters.next(), filters.collect());
        Self { tenant, filter, order: page.order, leading_filter, other_filters, after: page.after, scan_rows: 0 }
    }

    /// Next query, for `min_rows` entries.
    fn sql(&mut self, min_rows: usize) -> QueryBuilder<Postgres> {
        // Usually all scanned entries match. Otherwise, scan increasingly many per query.
        self.scan_rows = (self.scan_rows * 4).clamp(i64::try_from(min_rows).unwrap_or(MAX_SCAN_ROWS), MAX_SCAN_ROWS);
        let project = self.tenant.project_id();
        let (from, to) = (self.filter.from.map(TimeBound::From), self.filter.to.map(TimeBound::To));
        let (start, operator, extreme, end, direction) = match self.order {
            Order::Asc => (from, " > ", "greatest(", to, " ASC"),
            Order::Desc => (to, " < ", "least(", from, " DESC"),
        };
        let mut sql = QueryBuilder::new(concat!(
            "SELECT ",
            entry_columns!(),
            ", position, is_within, fits FROM (SELECT ",
            entry_columns!(),
            ", position, coalesce("
        ));
        // Conditions on each scanned entry.
        sql.push("project_id = ").push_bind(project);
        if let Some((column, value)) = self.leading_filter {
            sql.push(" AND ").push(column).push(" = ").push_bind(value);
        }
        if let Some(end) = end {
            sql.push(" AND id").push(end.operator());
            end.push_id_bound(&mut sql, self.tenant);
        }
        sql.push(", false) AS is_within, coalesce(true");
        for &(column, value) in &self.other_filters {
            sql.push(" AND ").push(column).push(" = ").push_bind(value);
        }
        for bound in [from, to].into_iter().flatten() {
            bound.push_exact(&mut sql);
        }
        // Scanned entries. The index on actors contains only entries that have an actor.
        let columns: Vec<&str> =
            ["project_id"].into_iter().chain(self.leading_filter.map(|(column, _)| column)).chain(["id"]).collect();
        sql.push(concat!(
            ", false) AS fits FROM (SELECT ",
            entry_columns!(),
            ", row_number() OVER () AS position FROM (SELECT ",
            entry_columns!(),
            " FROM audit_entries WHERE ("
        ));
        sql.push(columns.join(", ")).push(")").push(operator).push("(").push_bind(project);
        if let Some((_, value)) = self.leading_filter {
            sql.push(", ").push_bind(value);
        }
        sql.push(", ").push(extreme).push_bind(self.after);
        if let Some(start) = start {
            sql.push(", ");
            start.push_id_bound(&mut sql, self.tenant);
        }
        sql.push("))");
        if let Some((column, _)) = self.leading_filter {
            sql.push(" AND ").push(column).push(" IS NOT NULL");
        }
        let directed: Vec<_> = columns.iter().map(|column| format!("{column}{direction}")).collect();
        sql.push(" ORDER BY ").push(directed.join(", ")).push(" LIMIT ").push_bind(self.scan_rows);
        sql.push(") looked) numbered) matched WHERE is_within AND fits OR position = ")
            .push_bind(self.scan_rows)
            .push(" ORDER BY position");
        sql
    }
}

/// One end of a time range. The time in an ID is the time of sealing, not of the action. The chain records the maximum
/// difference between the two, so the ID bounds the scan, and the entry itself decides.
#[derive(Clone, Copy)]
enum TimeBound {
    From(Timestamp),
    To(Timestamp),
}

impl TimeBound {
    fn operator(self) -> &'static str {
        match self {
            Self::From(_) => " >= ",
            Self::To(_) => " < ",
        }
    }

    /// Appends the ID that bounds the entries of the range.
    fn push_id_bound(self, sql: &mut QueryBuilder<Postgres>, tenant: Tenant) {
        let (time, tolerance) = match self {
            Self::From(time) => (time, " - earliest_by"),
            Self::To(time) => (time, " + latest_by + 1"),
        };
        // Lowest ID of a millisecond, which no entry has: the time in twelve digits, followed by zeros (RFC 9562 §5.7).
        sql.push("(SELECT (lpad(to_hex(greatest(").push_bind(time.unix_millis()).push("::bigint").push(tolerance);
        sql.push(", 0)), 12, '0') || repeat('0', 20))::uuid FROM audit_chains WHERE project_id = ");
        sql.push_bind(tenant.project_id()).push(")");
    }

    /// Appends the exact comparison with the time of the action.
    fn push_exact(self, sql: &mut QueryBuilder<Postgres>) {
        let (Self::From(time) | Self::To(time)) = self;
        // `Timestamp` has a single text form, in which texts sort like the times.
        sql.push(" AND (convert_from(payload, 'UTF8')::jsonb ->> 'occurred_at') COLLATE \"C\"");
        sql.push(self.operator()).push_bind(time.to_string());
    }
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

/// Reads up to `limit` entries of a chain after `after`. Uses a row comparison, as in [`list`]. The second comparison
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
    let sql = keyset!(
        page,
        "id",
        "SELECT id, project_id, seq, hash, made_at, public_key, signature FROM audit_checkpoints WHERE project_id = $3"
    );
    let rows: Vec<StoredCheckpoint> =
        sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(tenant.project_id()).fetch_all(db).await?;
    Ok(page.page(rows, |checkpoint| checkpoint.id))
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
