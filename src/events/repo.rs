//! SQL that reads events, in sealed order.

use sqlx::{FromRow, PgConnection};

use crate::base::{
    action::Action,
    id::{EventId, ProjectId},
    page::{Order, Page, PageRequest},
    tenant::Tenant,
};

/// An event as it was sealed.
#[derive(Debug, FromRow)]
pub struct Sealed {
    /// Its id.
    pub id: EventId,
    /// The entry that it is.
    pub payload: Vec<u8>,
}

/// What was sealed after some id, in all projects.
#[derive(Debug, FromRow)]
pub struct Followed {
    /// Its id.
    pub id: EventId,
    /// Its project.
    pub project_id: ProjectId,
    /// The entry that it is; none if it is no event, or was redacted.
    pub payload: Option<Vec<u8>>,
}

/// A statement over a project's events of one type or of all; each is one that an index answers in order.
macro_rules! select_events {
    ($action:expr, $tail:literal) => {
        match $action {
            // A redacted entry has neither payload nor action: it is no event any more.
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

/// A page of the tenant's events after `oldest`.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    action: Option<Action>,
    oldest: EventId,
    page: &PageRequest<crate::base::id::Event>,
) -> sqlx::Result<Page<Sealed, crate::base::id::Event>> {
    let sql = match page.order {
        Order::Asc => select_events!(action, " AND id > greatest($1, $5) ORDER BY id ASC LIMIT $2"),
        Order::Desc => select_events!(action, " AND id < $1 AND id > $5 ORDER BY id DESC LIMIT $2"),
    };
    let rows = sqlx::query_as(sql)
        .bind(page.after)
        .bind(page.rows())
        .bind(tenant.project_id())
        .bind(action.map(Action::as_str))
        .bind(oldest)
        .fetch_all(db)
        .await?;
    Ok(page.page(rows, |event: &Sealed| event.id))
}

/// The tenant's events after `after` up to `up_to`, at most `rows`.
pub async fn between(
    db: &mut PgConnection,
    tenant: Tenant,
    action: Option<Action>,
    (after, up_to): (EventId, EventId),
    rows: i64,
) -> sqlx::Result<Vec<Sealed>> {
    sqlx::query_as(select_events!(action, " AND id > $1 AND id <= $5 ORDER BY id LIMIT $2"))
        .bind(after)
        .bind(rows)
        .bind(tenant.project_id())
        .bind(action.map(Action::as_str))
        .bind(up_to)
        .fetch_all(db)
        .await
}

/// The id that was given last.
pub async fn last(db: &mut PgConnection) -> sqlx::Result<EventId> {
    sqlx::query_scalar("SELECT last_id FROM audit_sealer").fetch_one(db).await
}

/// What was sealed after `after`, at most `rows`. What is no event is there too, so that it is passed over once.
pub async fn follow(db: &mut PgConnection, after: EventId, rows: i64) -> sqlx::Result<Vec<Followed>> {
    sqlx::query_as(
        "SELECT id, project_id, CASE WHEN is_event THEN payload END AS payload FROM audit_entries
         WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await
}
