//! SQL that reads events, in sealed order.

use sqlx::{FromRow, PgConnection};

use crate::{
    base::{
        action::Action,
        id::{self, EventId, ProjectId},
        identity::tenant::Tenant,
        input::page::{Order, Page, PageRequest},
    },
    db::lists::scan::Scan,
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

/// Lists the tenant's events. An ascending list ends with the event `bound`, a descending one before it.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    action: Option<Action>,
    bound: EventId,
    page: &PageRequest<id::Event>,
) -> sqlx::Result<Page<StoredEvent, id::Event>> {
    // A redacted entry has neither payload nor action.
    let (key, filter): (&[_], _) = match action {
        None => (&[("project_id", "$3"), ("is_event", "true")], "payload IS NOT NULL"),
        Some(_) => (&[("project_id", "$3"), ("action", "$4")], "is_event"),
    };
    let until = match page.order {
        Order::Asc => " AND s.id <= $5",
        Order::Desc => " AND s.id > $5",
    };
    let columns = "project_id, action, is_event, id, payload";
    let scan = Scan { table: "audit_entries", columns, key, until, filter, ..Scan::DEFAULT };
    scan.page(db, page, |query| query.bind(tenant.project_id()).bind(action.map(Action::as_str)).bind(bound)).await
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
