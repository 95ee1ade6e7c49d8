//! SQL for users and their memberships.

use sqlx::{AssertSqlSafe, PgConnection};

use super::model::{Member, MemberAccount, MemberStatus, ProfileAccount, ProfileMembership, UserFilter};
use crate::{
    auth::credentials::accounts::Account,
    base::{
        id::{self, ProjectId, UserId},
        identity::{role::Role, tenant::Tenant},
        input::{
            email::Email,
            page::{Order, Page, PageRequest},
        },
        runtime::clock::Timestamp,
    },
    db::{
        Stamped,
        lists::scan::{self, Scan},
    },
};

/// The user with this email address, in any spelling. Created with this ID if there is none. Does not lock an existing
/// user, so that the duration does not depend on what the user is doing.
pub async fn find_or_insert(db: &mut PgConnection, id: UserId, email: &Email, now: Timestamp) -> sqlx::Result<Account> {
    // If another transaction is creating the same user, the insert waits for it and does nothing, and the next
    // statement sees the new user.
    for _ in 0..2 {
        let account = sqlx::query_as(
            "WITH found AS (
                 SELECT id, email, password_hash FROM users WHERE email = $2 OR email_key = $3
                 ORDER BY email = $2 DESC LIMIT 1
             ), made AS (
                 INSERT INTO users (id, email, email_key, created_at) SELECT $1, $2, $3, $4
                 WHERE NOT EXISTS (SELECT FROM found) ON CONFLICT DO NOTHING RETURNING id, email, password_hash
             )
             SELECT id, email, password_hash FROM found UNION ALL SELECT id, email, password_hash FROM made",
        )
        .bind(id)
        .bind(email)
        .bind(email.key())
        .bind(now)
        .fetch_optional(&mut *db)
        .await?;
        if let Some(account) = account {
            return Ok(account);
        }
    }
    Err(sqlx::Error::RowNotFound)
}

/// Adds a user to a project.
pub async fn insert_member(
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
    role: Role,
    status: MemberStatus,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO members (project_id, user_id, role, status, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(project)
        .bind(user)
        .bind(role)
        .bind(status)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Sets a user's email address to the spelling in the invitation that the user accepts, if it is the first one that is
/// accepted: this spelling is the first that has reached the user. Returns the resulting address.
pub async fn set_invited_email(db: &mut PgConnection, project: ProjectId, user: UserId) -> sqlx::Result<Email> {
    sqlx::query_scalar(
        "UPDATE users u SET email = CASE
             WHEN m.invited_as IS NULL OR EXISTS (SELECT FROM users o WHERE o.email = m.invited_as) THEN u.email
             ELSE m.invited_as END
         FROM members m WHERE u.id = $1 AND m.user_id = $1 AND m.project_id = $2 RETURNING u.email",
    )
    .bind(user)
    .bind(project)
    .fetch_one(db)
    .await
}

/// Locks the memberships of a project until the transaction ends, so that decisions about all of them remain valid,
/// such as who is the last owner. Must be called before any lock on a membership, or two such transactions can
/// deadlock.
pub async fn lock_members(db: &mut PgConnection, project: ProjectId) -> sqlx::Result<()> {
    sqlx::query("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE").bind(project).execute(db).await.map(drop)
}

/// Whether the tenant's project has an owner other than `user`.
pub async fn has_other_owner(db: &mut PgConnection, tenant: Tenant, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM members
                        WHERE project_id = $1 AND user_id <> $2 AND role = 'owner' AND status = 'active')",
    )
    .bind(tenant.project_id())
    .bind(user)
    .fetch_one(db)
    .await
}

/// The owners of the tenant's project.
pub async fn owners(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Vec<UserId>> {
    sqlx::query_scalar("SELECT user_id FROM members WHERE project_id = $1 AND role = 'owner' AND status = 'active'")
        .bind(tenant.project_id())
        .fetch_all(db)
        .await
}

/// Sets the role of the member with this public ID. Returns whether there is one.
pub async fn set_role(db: &mut PgConnection, tenant: Tenant, public_id: UserId, role: Role) -> sqlx::Result<bool> {
    sqlx::query("UPDATE members SET role = $3 WHERE project_id = $1 AND public_id = $2")
        .bind(tenant.project_id())
        .bind(public_id)
        .bind(role)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Removes the member with this public ID from the tenant's project. Returns whether there was one.
pub async fn remove_member(db: &mut PgConnection, tenant: Tenant, public_id: UserId) -> sqlx::Result<bool> {
    sqlx::query("DELETE FROM members WHERE project_id = $1 AND public_id = $2")
        .bind(tenant.project_id())
        .bind(public_id)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Whether a user has any membership other than open invitations.
pub async fn is_member_anywhere(db: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM members m JOIN projects p ON p.id = m.project_id
                        WHERE m.user_id = $1 AND m.status = 'active')",
    )
    .bind(user)
    .fetch_one(db)
    .await
}

/// The member of the tenant's project with this public ID.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: UserId) -> sqlx::Result<Option<MemberAccount>> {
    sqlx::query_as(
        "SELECT m.public_id AS id, m.user_id AS account_id,
                CASE m.status WHEN 'invited' THEN coalesce(m.invited_as, u.email) ELSE u.email END AS email, m.role, m.status,
                CASE m.status WHEN 'invited' THEN m.created_at ELSE u.created_at END AS created_at
         FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND m.public_id = $2",
    )
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// The members of the tenant's project, including invited ones.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    wanted: &UserFilter,
    page: &PageRequest<id::User>,
) -> sqlx::Result<Page<Member, id::User>> {
    let (role, email) = (wanted.role, wanted.email.as_deref().unwrap_or_default());
    let key: &[_] = match role {
        Some(_) => &[("project_id", "$3"), ("role", "$4")],
        None => &[("project_id", "$3")],
    };
    let scan = Scan {
        table: "members",
        columns: "project_id, role, public_id, user_id, invited_as, status, created_at",
        key,
        id: "public_id",
        lookup: "CROSS JOIN LATERAL (SELECT email, created_at FROM users WHERE id = s.user_id OFFSET 0) AS u",
        item: "s.public_id AS id, s.role, s.status,
               CASE s.status WHEN 'invited' THEN coalesce(s.invited_as, u.email) ELSE u.email END AS email,
               CASE s.status WHEN 'invited' THEN s.created_at ELSE u.created_at END AS created_at",
        filter: match email {
            "" => "",
            _ => {
                "strpos(lower(CASE s.status WHEN 'invited' THEN coalesce(s.invited_as, u.email) ELSE u.email END), lower($5)) > 0"
            }
        },
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| query.bind(tenant.project_id()).bind(role).bind(email)).await
}

/// Maximum number of memberships in a profile.
const MAX_MEMBERSHIPS: u8 = 100;

/// The first memberships of a user.
pub async fn memberships_of(
    db: &mut PgConnection,
    user: UserId,
) -> sqlx::Result<Stamped<Page<ProfileMembership, id::Project>>> {
    let page = PageRequest { limit: MAX_MEMBERSHIPS, order: Order::Asc, after: ProjectId::FIRST };
    let scan = Scan {
        table: "members",
        columns: "user_id, project_id, status, role",
        key: &[("user_id", "$3")],
        id: "project_id",
        lookup: "LEFT JOIN LATERAL (SELECT id, name, status FROM projects WHERE id = s.project_id OFFSET 0) AS p ON true",
        item: "p.id AS project_id, p.name AS project_name, p.status AS project_status, s.role",
        filter: "s.status = 'active' AND p.id IS NOT NULL",
        ..Scan::DEFAULT
    };
    let sql = AssertSqlSafe(format!(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, l.scan_id IS NOT NULL AS is_found, l.project_id,
                l.project_name, l.project_status, l.role, l.scan_id, l.scan_fits, l.scan_stops
         FROM auth_clock a LEFT JOIN LATERAL ({}) AS l ON true ORDER BY l.scan_id",
        scan.sql(page.order, scan::PAGE_ROWS)
    ));
    let rows = sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(user).fetch_all(db).await?;
    let Stamped { stamp, value } = Stamped::collect(rows)?;
    Ok(Stamped { stamp, value: scan::into_page(&page, value) })
}

/// The account of a session's user.
pub async fn profile_account(db: &mut PgConnection, user: UserId) -> sqlx::Result<Option<ProfileAccount>> {
    sqlx::query_as("SELECT email, created_at, password_hash IS NOT NULL AS has_password FROM users WHERE id = $1")
        .bind(user)
        .fetch_optional(db)
        .await
}
