//! SQL for projects.

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, types::Json};

use super::model::{NewProject, Project, ProjectPatch};
use crate::{
    audit::model::Audited,
    base::{
        id::{self, ProjectId, UserId},
        identity::tenant::{ProjectStatus, Tenant},
        input::page::{Order, Page, PageRequest},
        runtime::clock::Timestamp,
    },
    db::{
        Call, Stamped,
        lists::scan::{self, Scan},
    },
};

/// The call that creates a project, and the resulting project. It has no member yet.
pub fn create(id: ProjectId, new: NewProject, now: Timestamp) -> (Call, Project) {
    let project = Project {
        id,
        name: new.name,
        status: ProjectStatus::Active,
        metadata: Json(new.metadata.unwrap_or_default()),
        created_at: now,
        version: 1,
    };
    let call = Call::new("create_project", |_| None)
        .bind(project.id)
        .bind(&project.name)
        .bind(&project.metadata)
        .bind(project.created_at);
    (call, project)
}

/// The tenant's project.
pub async fn get(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Option<Project>> {
    sqlx::query_as("SELECT id, name, status, metadata, created_at, version FROM projects WHERE id = $1")
        .bind(tenant.project_id())
        .fetch_optional(db)
        .await
}

/// The tenant's project, with a row lock until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Option<Project>> {
    sqlx::query_as(
        "SELECT id, name, status, metadata, created_at, version FROM projects WHERE id = $1 FOR NO KEY UPDATE",
    )
    .bind(tenant.project_id())
    .fetch_optional(db)
    .await
}

/// The tenant's project, locked for deletion: waits for transactions that add something to it, and blocks new ones.
pub async fn lock_for_deletion(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Option<Project>> {
    sqlx::query_as("SELECT id, name, status, metadata, created_at, version FROM projects WHERE id = $1 FOR UPDATE")
        .bind(tenant.project_id())
        .fetch_optional(db)
        .await
}

/// Updates the tenant's project.
pub async fn update(db: &mut PgConnection, tenant: Tenant, patch: ProjectPatch) -> sqlx::Result<Project> {
    sqlx::query_as(
        "UPDATE projects SET name = coalesce($2, name), metadata = coalesce($3, metadata), version = version + 1
         WHERE id = $1 RETURNING id, name, status, metadata, created_at, version",
    )
    .bind(tenant.project_id())
    .bind(patch.name.0)
    .bind(patch.metadata.change_or_default().map(Json))
    .fetch_one(db)
    .await
}

/// Sets the status of the tenant's project.
pub async fn set_status(db: &mut PgConnection, tenant: Tenant, status: ProjectStatus) -> sqlx::Result<Project> {
    sqlx::query_as(
        "UPDATE projects SET status = $2, version = version + 1 WHERE id = $1
         RETURNING id, name, status, metadata, created_at, version",
    )
    .bind(tenant.project_id())
    .bind(status)
    .fetch_one(db)
    .await
}

/// Monthly quota of a project, set by the operator: included requests and hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Quota {
    /// Included requests per month. None for unlimited.
    pub included: Option<i64>,
    /// Maximum requests per month. None for no limit.
    pub hard_limit: Option<i64>,
}

impl Audited for Quota {}

/// The quota of the tenant's project.
pub async fn get_quota(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Option<Quota>> {
    sqlx::query_as("SELECT included, hard_limit FROM projects WHERE id = $1")
        .bind(tenant.project_id())
        .fetch_optional(db)
        .await
}

/// A project's name and quota, with a row lock until the transaction ends. For the operator.
pub async fn lock_quota(db: &mut PgConnection, id: ProjectId) -> sqlx::Result<Option<(String, Quota)>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        name: String,
        #[sqlx(flatten)]
        quota: Quota,
    }
    let row: Option<Row> =
        sqlx::query_as("SELECT name, included, hard_limit FROM projects WHERE id = $1 FOR NO KEY UPDATE")
            .bind(id)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|row| (row.name, row.quota)))
}

/// Sets a project's quota. For the operator.
pub async fn set_quota(db: &mut PgConnection, id: ProjectId, quota: Quota) -> sqlx::Result<()> {
    sqlx::query("UPDATE projects SET included = $2, hard_limit = $3 WHERE id = $1")
        .bind(id)
        .bind(quota.included)
        .bind(quota.hard_limit)
        .execute(db)
        .await
        .map(drop)
}

/// Deletes the tenant's project and its webhooks. Everything else that belongs to it becomes unreachable, and is removed
/// by [`db::purges`](crate::db::purges).
pub async fn delete(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<()> {
    sqlx::query(
        "WITH deleted AS (DELETE FROM projects WHERE id = $1 RETURNING id),
              webhook AS (DELETE FROM webhooks WHERE project_id = $1 RETURNING id)
         INSERT INTO purges (kind, id, due_at)
         SELECT 'project', id, now() FROM deleted
         UNION ALL SELECT 'webhook', id, now() + interval '1 minute' FROM webhook",
    )
    .bind(tenant.project_id())
    .execute(db)
    .await
    .map(drop)
}

/// The projects that a user is a member of. Every role can read its project.
pub async fn list_of_user(
    db: &mut PgConnection,
    user: UserId,
    status: Option<ProjectStatus>,
    page: &PageRequest<id::Project>,
) -> sqlx::Result<Stamped<Page<Project, id::Project>>> {
    let scan = Scan {
        table: "members",
        columns: "user_id, project_id, status",
        key: &[("user_id", "$3")],
        id: "project_id",
        lookup: "LEFT JOIN LATERAL (
                     SELECT id, name, status, metadata, created_at, version FROM projects WHERE id = s.project_id OFFSET 0
                 ) AS p ON true",
        item: "p.id, p.name, p.status, p.metadata, p.created_at, p.version",
        filter: match status {
            None => "s.status = 'active' AND p.id IS NOT NULL",
            Some(_) => "s.status = 'active' AND p.status = $4",
        },
        ..Scan::DEFAULT
    };
    let sql = AssertSqlSafe(format!(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, l.scan_id IS NOT NULL AS is_found, l.id, l.name, l.status,
                l.metadata, l.created_at, l.version, l.scan_id, l.scan_fits, l.scan_stops
         FROM auth_clock a LEFT JOIN LATERAL ({}) AS l ON true ORDER BY l.scan_id {}",
        scan.sql(page.order, if status.is_some() { scan::MAX_ROWS } else { scan::PAGE_ROWS }),
        scan::direction(page.order)
    ));
    let rows = sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(user).bind(status).fetch_all(db).await?;
    let Stamped { stamp, value } = Stamped::collect(rows)?;
    Ok(Stamped { stamp, value: scan::into_page(page, value) })
}

/// The tenant's project, as a list with one item.
pub async fn list_of_tenant(
    db: &mut PgConnection,
    tenant: Tenant,
    status: Option<ProjectStatus>,
    page: &PageRequest<id::Project>,
) -> sqlx::Result<Page<Project, id::Project>> {
    let is_listed = |project: &Project| {
        let is_after = match page.order {
            Order::Asc => project.id > page.after,
            Order::Desc => project.id < page.after,
        };
        is_after && status.is_none_or(|status| project.status == status)
    };
    let project = get(db, tenant).await?;
    Ok(page.page(project.into_iter().filter(is_listed).collect(), |project| project.id))
}

/// Whether there are no projects and no users.
pub async fn is_empty(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM projects) AND NOT EXISTS (SELECT FROM users)")
        .fetch_one(db)
        .await
}

/// The first project with this name that a user owns.
pub async fn find_owned(db: &mut PgConnection, owner: UserId, name: &str) -> sqlx::Result<Option<Project>> {
    sqlx::query_as(
        "SELECT p.id, p.name, p.status, p.metadata, p.created_at, p.version FROM projects p
         JOIN members m ON m.project_id = p.id AND m.user_id = $1 AND m.role = 'owner'
         WHERE p.name = $2 ORDER BY p.id LIMIT 1",
    )
    .bind(owner)
    .bind(name)
    .fetch_optional(db)
    .await
}
