//! SQL for users and their memberships.

use sqlx::PgConnection;

use super::model::{Account, Member, MemberStatus};
use crate::{
    base::{
        clock::Timestamp,
        email::{Email, EmailKey},
        id::{self, InvitationId, ProjectId, UserId},
        page::{Page, PageRequest, keyset},
        role::Role,
        tenant::{Membership, Tenant},
    },
    db::Stamped,
};

/// The user with this address, in whatever spelling. An account of exactly this spelling goes first: of two accounts with
/// one address, which an older version may have made, each is found by its own.
pub async fn find_by_email(db: &mut PgConnection, email: &str) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "SELECT id, email, password_hash FROM users WHERE email = $1 OR email_key = $2 ORDER BY email = $1 DESC LIMIT 1",
    )
    .bind(Email::spelling_of(email))
    .bind(EmailKey::of(email))
    .fetch_optional(db)
    .await
}

/// The user with this id.
pub async fn account(db: &mut PgConnection, id: UserId) -> sqlx::Result<Option<Account>> {
    sqlx::query_as("SELECT id, email, password_hash FROM users WHERE id = $1").bind(id).fetch_optional(db).await
}

/// The user with this address, in whatever spelling, who is made with this id if there is none yet. Locks nothing of a user
/// who is there: how long it takes does not depend on what they are doing.
pub async fn find_or_insert(db: &mut PgConnection, id: UserId, email: &Email, now: Timestamp) -> sqlx::Result<Account> {
    // Somebody else may just be making the same user: then the insert waits for them and does nothing, and the statement
    // that follows sees whom they have made.
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

/// Sets or changes a user's password.
pub async fn set_password_hash(db: &mut PgConnection, id: UserId, hash: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1").bind(id).bind(hash).execute(db).await.map(drop)
}

/// Changes a user's password, unless it is not `old` any more; gives whether it was.
pub async fn replace_password_hash(
    db: &mut PgConnection,
    id: UserId,
    old: Option<&str>,
    new: &str,
) -> sqlx::Result<bool> {
    sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2")
        .bind(id)
        .bind(old)
        .bind(new)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Keeps a password that has just been shown from being changed until the transaction ends, or gives false
/// if it is not `shown` any more. A session made in the same transaction is then one that a change of the
/// password ends. Stores `upgrade`, a stronger hash of the same password, if there is one.
pub async fn hold_password(
    db: &mut PgConnection,
    id: UserId,
    shown: Option<&str>,
    upgrade: Option<&str>,
) -> sqlx::Result<bool> {
    if let Some(upgrade) = upgrade {
        return replace_password_hash(db, id, shown, upgrade).await;
    }
    sqlx::query("SELECT FROM users WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2 FOR SHARE")
        .bind(id)
        .bind(shown)
        .fetch_optional(db)
        .await
        .map(|row| row.is_some())
}

/// Makes a user a member of a project.
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

/// An invitation of a user to a project.
#[derive(Debug)]
pub struct Invited<'a> {
    /// The account that belongs to the address.
    pub user: UserId,
    /// The user is shown under the invitation's id until they accept.
    pub invitation: InvitationId,
    /// The spelling of the address that they are invited by.
    pub email: &'a Email,
    /// The role that they get.
    pub role: Role,
}

/// Invites a user to a project.
pub async fn insert_invited(
    db: &mut PgConnection,
    tenant: Tenant,
    invited: Invited<'_>,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO members (project_id, user_id, invitation_id, invited_as, role, status, created_at)
         VALUES ($1, $2, $3, $4, $5, 'invited', $6)",
    )
    .bind(tenant.project_id())
    .bind(invited.user)
    .bind(invited.invitation)
    .bind(invited.email)
    .bind(invited.role)
    .bind(now)
    .execute(db)
    .await
    .map(drop)
}

/// Gives a user the spelling of their address by which they were invited to a project, as they accept that invitation
/// before they have accepted any other: mail goes to the spelling that was shown to be theirs first.
pub async fn keep_proven_spelling(db: &mut PgConnection, project: ProjectId, user: UserId) -> sqlx::Result<Email> {
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

/// Keeps the memberships of a project from being changed by others until the transaction ends, so that
/// what is decided over all of them, such as who is the last owner, holds. To be taken before any lock
/// on a membership, or two such transactions could wait for each other.
pub async fn lock_members(db: &mut PgConnection, project: ProjectId) -> sqlx::Result<()> {
    sqlx::query("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE").bind(project).execute(db).await.map(drop)
}

/// Whether somebody besides `user` owns the tenant's project.
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

/// Gives a member another role; gives whether there is one who is shown under this id.
pub async fn set_role(db: &mut PgConnection, tenant: Tenant, shown: UserId, role: Role) -> sqlx::Result<bool> {
    sqlx::query("UPDATE members SET role = $3 WHERE project_id = $1 AND public_id = $2")
        .bind(tenant.project_id())
        .bind(shown)
        .bind(role)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Takes a member out of the tenant's project; gives whether there was one who was shown under this id.
pub async fn remove_member(db: &mut PgConnection, tenant: Tenant, shown: UserId) -> sqlx::Result<bool> {
    sqlx::query("DELETE FROM members WHERE project_id = $1 AND public_id = $2")
        .bind(tenant.project_id())
        .bind(shown)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Whether a user has any membership that is more than an invitation.
pub async fn is_member_anywhere(db: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM members WHERE user_id = $1 AND status = 'active')")
        .bind(user)
        .fetch_one(db)
        .await
}

/// A user's place in a project, if they are its member. Who is only invited is not.
pub async fn membership_of(
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
) -> sqlx::Result<Stamped<Option<Membership>>> {
    sqlx::query_as(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, m.role IS NOT NULL AS is_found, m.role, p.status
         FROM auth_clock a
         LEFT JOIN (members m JOIN projects p ON p.id = m.project_id)
                ON m.project_id = $1 AND m.user_id = $2 AND m.status = 'active'",
    )
    .bind(project)
    .bind(user)
    .fetch_one(db)
    .await
}

/// As [`membership_of`], and keeps the role from changing until the transaction ends.
pub async fn lock_membership_of(
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
) -> sqlx::Result<Stamped<Option<Membership>>> {
    // In a subquery, because the outer side of a join cannot be locked.
    sqlx::query_as(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, l.role IS NOT NULL AS is_found, l.role, l.status
         FROM auth_clock a
         LEFT JOIN (SELECT m.role, p.status FROM members m JOIN projects p ON p.id = m.project_id
                    WHERE m.project_id = $1 AND m.user_id = $2 AND m.status = 'active' FOR SHARE OF m) l ON true",
    )
    .bind(project)
    .bind(user)
    .fetch_one(db)
    .await
}

/// The member of the tenant's project who is shown under this id.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: UserId) -> sqlx::Result<Option<Member>> {
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

/// The members of the tenant's project, invited ones among them.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    role: Option<Role>,
    page: &PageRequest<id::User>,
) -> sqlx::Result<Page<Member, id::User>> {
    let sql = keyset!(
        page,
        "m.public_id",
        "SELECT m.public_id AS id, m.user_id AS account_id,
                CASE m.status WHEN 'invited' THEN coalesce(m.invited_as, u.email) ELSE u.email END AS email, m.role, m.status,
                CASE m.status WHEN 'invited' THEN m.created_at ELSE u.created_at END AS created_at
         FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $3 AND ($4 IS NULL OR m.role = $4)"
    );
    let rows: Vec<Member> = sqlx::query_as(sql)
        .bind(page.after)
        .bind(page.rows())
        .bind(tenant.project_id())
        .bind(role)
        .fetch_all(db)
        .await?;
    Ok(page.page(rows, |member| member.id))
}
