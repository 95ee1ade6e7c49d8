//! SQL that reads the trail.

use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};

use super::{
    line::SignedText,
    model::DEPLOYMENT,
    view::{StoredCheckpoint, StoredEntry},
};
use crate::base::{
    action::Action,
    clock::Timestamp,
    hex,
    id::{self, AuditId, ProjectId},
    page::{Order, Page, PageRequest, keyset},
    tenant::Tenant,
};

/// What entries have in common.
#[derive(Debug, Default)]
pub struct Filter<'a> {
    /// They happened then or later.
    pub from: Option<Timestamp>,
    /// They happened before then.
    pub to: Option<Timestamp>,
    /// Who did it.
    pub actor: Option<&'a str>,
    /// What was done.
    pub action: Option<Action>,
    /// To what.
    pub target: Option<&'a str>,
}

/// The tenant's entries.
///
/// Each filter has an index whose order is the list's. Which one is read, and that it is read in its order until the page is
/// full, is settled here and not left to the planner, by comparing rows: it cannot know how much a project or an actor has,
/// and where it guesses wrong it collects and sorts all there is, or looks through every other project's entries.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    filter: &Filter<'_>,
    page: &PageRequest<id::Audit>,
) -> sqlx::Result<Page<StoredEntry, id::Audit>> {
    let action = filter.action.map(Action::as_str);
    // The one that most likely leaves the least comes first; the others are looked at on the way.
    let filters = [("target_id", filter.target), ("actor_id", filter.actor), ("action", action)];
    let mut filters = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
    let order = filters.next();
    let columns = order.map_or("project_id, id".to_owned(), |(column, _)| format!("project_id, {column}, id"));
    let (least, most, direction) = match page.order {
        Order::Asc => (AuditId::from_u128(page.after.as_u128().saturating_add(1)), AuditId::LAST, "ASC"),
        Order::Desc => (AuditId::FIRST, page.after, "DESC"),
    };

    let mut sql = QueryBuilder::<Postgres>::new("SELECT * FROM audit_entries WHERE true");
    let sides =
        [(" >= ", "greatest(", least, filter.from.map(Side::From)), (" < ", "least(", most, filter.to.map(Side::To))];
    for (compare, extreme, id, time) in sides {
        sql.push(" AND (").push(&columns).push(")").push(compare).push("(").push_bind(tenant.project_id());
        if let Some((_, value)) = order {
            sql.push(", ").push_bind(value);
        }
        sql.push(", ").push(extreme).push_bind(id);
        if let Some(time) = time {
            sql.push(", ");
            time.bound(&mut sql, tenant);
        }
        sql.push("))");
        if let Some(time) = time {
            time.exactly(&mut sql);
        }
    }
    if let Some((column, _)) = order {
        // What the index is made for, said in its words.
        sql.push(" AND ").push(column).push(" IS NOT NULL");
    }
    for (column, value) in filters {
        sql.push(" AND ").push(column).push(" = ").push_bind(value);
    }
    let directed = columns.replace(',', &format!(" {direction},"));
    sql.push(" ORDER BY ").push(directed).push(" ").push(direction).push(" LIMIT ").push_bind(page.rows());
    let rows = sql.build_query_as().fetch_all(db).await?;
    Ok(page.page(rows, |entry: &StoredEntry| entry.id))
}

/// One end of a span of time. An id's time is that of its sealing: the chain knows how far the two have ever been apart, so
/// ids say where to look, and the entry itself whether it is one. In one statement with the rest, because what is sealed
/// in between may be further apart.
#[derive(Clone, Copy)]
enum Side {
    From(Timestamp),
    To(Timestamp),
}

impl Side {
    /// Adds the first id that is, or the first that is not to be looked at.
    fn bound(self, sql: &mut QueryBuilder<Postgres>, tenant: Tenant) {
        let (time, further) = match self {
            Self::From(time) => (time, " - earliest_by"),
            Self::To(time) => (time, " + latest_by + 1"),
        };
        // The first id of a millisecond: its number in twelve digits, and then nothing (RFC 9562 §5.7).
        sql.push("(SELECT (lpad(to_hex(greatest(").push_bind(time.unix_millis()).push("::bigint").push(further);
        sql.push(", 0)), 12, '0') || repeat('0', 20))::uuid FROM audit_chains WHERE project_id = ");
        sql.push_bind(tenant.project_id()).push(")");
    }

    /// Adds that the entry happened on this side of the time.
    fn exactly(self, sql: &mut QueryBuilder<Postgres>) {
        let (compare, time) = match self {
            Self::From(time) => (" >= ", time),
            Self::To(time) => (" < ", time),
        };
        // Written in one way (`Timestamp`), so that texts sort as the times do.
        sql.push(" AND (convert_from(payload, 'UTF8')::jsonb ->> 'occurred_at') COLLATE \"C\"");
        sql.push(compare).push_bind(time.to_string());
    }
}

/// Where an export begins and ends.
#[derive(Debug, Default, FromRow)]
pub struct Start {
    /// The number of the chain's last entry.
    pub seq: i64,
    /// Its hash; none if the chain has no entry.
    pub hash: Option<Vec<u8>>,
    anchor_seq: Option<i64>,
    anchor_hash: Option<Vec<u8>>,
    made_at: Option<Timestamp>,
    public_key: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

impl Start {
    /// The number of the last entry that was removed because of its age; 0 for none.
    pub fn removed_up_to(&self) -> i64 {
        self.anchor_seq.unwrap_or(0)
    }

    /// What was signed when entries were last removed.
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

/// Where a chain begins and ends.
pub async fn start(db: &mut PgConnection, chain: ProjectId) -> sqlx::Result<Start> {
    let start: Option<Start> = sqlx::query_as(
        "SELECT c.seq, c.hash, a.seq AS anchor_seq, a.hash AS anchor_hash, a.made_at, a.public_key, a.signature
         FROM audit_chains c LEFT JOIN audit_anchors a USING (project_id) WHERE c.project_id = $1",
    )
    .bind(chain)
    .fetch_optional(db)
    .await?;
    Ok(start.unwrap_or_default())
}

/// An entry among those that are exported.
#[derive(Debug, FromRow)]
pub struct ExportedEntry {
    /// The entry.
    #[sqlx(flatten)]
    pub entry: StoredEntry,
    /// Up to which number entries were removed because of their age, at that time.
    pub removed_up_to: i64,
}

/// The entries of a chain after `after`, at most so many. By comparing rows, as in [`list`].
pub async fn after(
    db: &mut PgConnection,
    chain: ProjectId,
    after: AuditId,
    limit: i64,
) -> sqlx::Result<Vec<ExportedEntry>> {
    sqlx::query_as(
        "SELECT *,
                coalesce((SELECT seq FROM audit_anchors WHERE project_id = $1), 0) AS removed_up_to
         FROM audit_entries
         WHERE (project_id, id) > ($1, $2) AND (project_id, id) <= ($1, $4) ORDER BY project_id, id LIMIT $3",
    )
    .bind(chain)
    .bind(after)
    .bind(limit)
    .bind(AuditId::LAST)
    .fetch_all(db)
    .await
}

/// The tenant's checkpoints.
pub async fn checkpoints(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Audit>,
) -> sqlx::Result<Page<StoredCheckpoint, id::Audit>> {
    let sql = keyset!(page, "id", "SELECT * FROM audit_checkpoints WHERE project_id = $3");
    let rows: Vec<StoredCheckpoint> =
        sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(tenant.project_id()).fetch_all(db).await?;
    Ok(page.page(rows, |checkpoint| checkpoint.id))
}

/// What is known of an entry at a glance.
#[derive(Debug, FromRow)]
pub struct Found {
    /// The entry.
    pub id: AuditId,
    /// Its number in the chain.
    pub seq: i64,
    /// What was done; none when it was redacted.
    pub action: Option<String>,
    /// Whether it was.
    pub is_redacted: bool,
}

/// Those of a chain's entries that have these ids, in the order of the chain.
pub async fn find(db: &mut PgConnection, chain: ProjectId, ids: &[AuditId]) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as(
        "SELECT id, seq, action, payload IS NULL AS is_redacted FROM audit_entries
         WHERE project_id = $1 AND id = ANY($2) ORDER BY id",
    )
    .bind(chain)
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Whether a project has a trail, or will have one.
pub async fn is_known(db: &mut PgConnection, chain: ProjectId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM audit_chains WHERE project_id = $1) OR EXISTS (SELECT FROM projects WHERE id = $1)",
    )
    .bind(chain)
    .fetch_one(db)
    .await
}
