//! SQL for users and their memberships.

use sqlx::PgConnection;

use super::model::{Email, Member, Role};
use crate::base::{
    clock::Timestamp,
    id::{self, ProjectId, UserId},
    page::{Page, PageRequest, keyset},
    tenant::Tenant,
};

/// A user with what is needed to sign them in.
#[derive(Debug, sqlx::FromRow)]
pub struct Account {
    /// The user.
    pub id: UserId,
    /// Their address.
    pub email: Email,
    /// Argon2id in PHC form, if they have set a password.
    pub password_hash: Option<String>,
}

/// The user with this address.
pub async fn find_by_email(db: &mut PgConnection, email: &Email) -> sqlx::Result<Option<Account>> {
    sqlx::query_as("SELECT id, email, password_hash FROM users WHERE email = $1").bind(email).fetch_optional(db).await
}

/// Adds a user.
pub async fn insert(db: &mut PgConnection, id: UserId, email: &Email, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(email)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Sets or changes a user's password.
pub async fn set_password_hash(db: &mut PgConnection, id: UserId, hash: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1").bind(id).bind(hash).execute(db).await.map(drop)
}

/// Makes a user a member of a project.
pub async fn insert_member(
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
    role: Role,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO members (project_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)")
        .bind(project)
        .bind(user)
        .bind(role)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// A user's role in a project, if they are its member.
pub async fn role_of(db: &mut PgConnection, project: ProjectId, user: UserId) -> sqlx::Result<Option<Role>> {
    sqlx::query_scalar("SELECT role FROM members WHERE project_id = $1 AND user_id = $2")
        .bind(project)
        .bind(user)
        .fetch_optional(db)
        .await
}

/// As [`role_of`], and keeps the role from changing until the transaction ends.
pub async fn lock_role_of(db: &mut PgConnection, project: ProjectId, user: UserId) -> sqlx::Result<Option<Role>> {
    sqlx::query_scalar("SELECT role FROM members WHERE project_id = $1 AND user_id = $2 FOR SHARE")
        .bind(project)
        .bind(user)
        .fetch_optional(db)
        .await
}

/// One member of the tenant's project.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: UserId) -> sqlx::Result<Option<Member>> {
    sqlx::query_as(
        "SELECT u.id, u.email, m.role, u.created_at FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND m.user_id = $2",
    )
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// The members of the tenant's project.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::User>,
) -> sqlx::Result<Page<Member, id::User>> {
    let sql = keyset!(
        page,
        "m.user_id",
        "SELECT u.id, u.email, m.role, u.created_at FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $3"
    );
    let rows: Vec<Member> =
        sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(tenant.project_id()).fetch_all(db).await?;
    Ok(page.page(rows, |member| member.id))
}
