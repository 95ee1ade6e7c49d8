//! SQL that reads events, in sealed order.

use sqlx::{FromRow, PgConnection};

use crate::base::{
    action::Action,
    id::{EventId, ProjectId},
    identity::tenant::Tenant,
    input::page::{Order, Page, PageRequest},
};

/// Event as stored.
#[derive(Debug, FromRow)]
pub struct StoredEvent {
    /// ID of the event.
    pub id: EventId,
    /// Audit entry of the event.
    pub payload: Vec<u8>,
}

/// Sealed entry of any project.
#[derive(Debug, FromRow)]
pub struct TailedEntry {
    /// ID of the entry.
    pub id: EventId,
    /// Project of the entry.
    pub project_id: ProjectId,
    /// Content of the entry; none if it is not an event or was redacted.
    pub payload: Option<Vec<u8>>,
}

/// Query for a project's events of one type or of all types. Each variant is answered by one index, in order.
macro_rules! select_events {
    ($action:expr, $tail:literal) => {
        match $action {
            // A redacted entry has neither payload nor action and is no longer an event.
            None => concat!(
                "SELECT id, payload FROM audit_entries
                 WHERE project_id = $3 AND is_event AND payload IS NOT NULL AND $4::text IS NULL",
                $tail
            ),
            Some(_) => concat!(
                "SELECT id, payload FROM audit_entries WHERE project_id = $3 AND is_event AND action = $4",
                $tail
            ),
        }
    };
}

/// Lists the tenant's events after `oldest_retained`.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    action: Option<Action>,
    oldest_retained: EventId,
    page: &PageRequest<crate::base::id::Event>,
) -> sqlx::Result<Page<StoredEvent, crate::base::id::Event>> {
    let sql = match page.order {
        Order::Asc => select_events!(action, " AND id > greatest($1, $5) ORDER BY id ASC LIMIT $2"),
        Order::Desc => select_events!(action, " AND id < $1 AND id > $5 ORDER BY id DESC LIMIT $2"),
    };
    let rows = sqlx::query_as(sql)
        .bind(page.after)
        .bind(page.rows())
        .bind(tenant.project_id())
        .bind(action.map(Action::as_str))
        .bind(oldest_retained)
        .fetch_all(db)
        .await?;
    Ok(page.page(rows, |event: &StoredEvent| event.id))
}

/// Reads up to `rows` of the tenant's events after `after` up to `up_to`.
pub async fn between(
    db: &mut PgConnection,
    tenant: Tenant,
    action: Option<Action>,
    (after, up_to): (EventId, EventId),
    rows: i64,
) -> sqlx::Result<Vec<StoredEvent>> {
    sqlx::query_as(select_events!(action, " AND id > $1 AND id <= $5 ORDER BY id LIMIT $2"))
        .bind(after)
        .bind(rows)
        .bind(tenant.project_id())
        .bind(action.map(Action::as_str))
        .bind(up_to)
        .fetch_all(db)
        .await
}

/// Reads the last assigned ID.
pub async fn last(db: &mut PgConnection) -> sqlx::Result<EventId> {
    sqlx::query_scalar("SELECT last_id FROM audit_sealer").fetch_one(db).await
}

/// Reads up to `rows` entries sealed after `after`. Includes entries that are not events, so that they are scanned only
/// once.
pub async fn entries_after(db: &mut PgConnection, after: EventId, rows: i64) -> sqlx::Result<Vec<TailedEntry>> {
    sqlx::query_as(
        "SELECT id, project_id, CASE WHEN is_event THEN payload END AS payload FROM audit_entries
         WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await
}
