//! SQL for invitations, with which an invited user becomes a member.

use std::time::Duration;

use sqlx::PgConnection;

use super::model::{Member, MemberStatus};
use crate::{
    base::{
        error::{Code, Error, Result},
        id::{InvitationId, ProjectId, UserId},
        identity::{
            role::Role,
            secret::{Secret, SecretHash},
            tenant::Tenant,
        },
        input::email::Email,
        runtime::clock::Timestamp,
    },
    db::Call,
};

/// Lifetime of an invitation.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Public ID of an invited user.
pub fn public_id(invitation: InvitationId) -> UserId {
    UserId::from_u128(invitation.as_u128())
}

/// An invitation as stored in the database.
#[derive(Debug, sqlx::FromRow)]
pub struct Invitation {
    /// Invitation ID.
    pub id: InvitationId,
    /// Project of the invitation.
    pub project_id: ProjectId,
    /// Invited user.
    pub user_id: UserId,
    expires_at: Timestamp,
    accepted_at: Option<Timestamp>,
    withdrawn_at: Option<Timestamp>,
}

impl Invitation {
    /// An error if the invitation cannot be accepted at `now`.
    pub fn require_open(&self, now: Timestamp) -> Result<()> {
        let why = if self.accepted_at.is_some() {
            "This invitation was already accepted; sign in with POST /v1/sessions"
        } else if self.withdrawn_at.is_some() {
            "This invitation was withdrawn; ask for a new one"
        } else if self.expires_at <= now {
            "This invitation has expired; ask for a new one"
        } else {
            return Ok(());
        };
        Err(Error::new(Code::InvalidState, why))
    }
}

/// The call that invites the owner of an email address to the tenant's project, and the resulting member. The account of
/// the address is created if there is none.
pub fn create(
    tenant: Tenant,
    (email, role): (Email, Role),
    secret: &Secret,
    created_by: Option<UserId>,
    now: Timestamp,
) -> (Call, Member) {
    let id = InvitationId::new();
    let (address, key) = (email.to_string(), email.key());
    let already_member = move |reason: &str| {
        (reason == "already_member").then(|| {
            let detail = format!(
                "{address} is already in this project or invited to it; remove the user first to send a new invitation"
            );
            Error::new(Code::AlreadyMember, detail)
        })
    };
    let call = Call::new("create_invitation", already_member)
        .bind(id)
        .bind(tenant.project_id())
        .bind(UserId::new())
        .bind(&email)
        .bind(key)
        .bind(role)
        .bind(secret.hash())
        .bind(created_by)
        .bind(now)
        .bind(now.plus(LIFETIME));
    (call, Member { id: public_id(id), email, role, status: MemberStatus::Invited, created_at: now })
}

/// The invitation with this secret, open or not, if its project exists.
pub async fn find(db: &mut PgConnection, secret: &SecretHash) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as(
        "SELECT i.id, i.project_id, i.user_id, i.expires_at, i.accepted_at, i.withdrawn_at
         FROM invitations i JOIN projects p ON p.id = i.project_id WHERE i.secret_hash = $1",
    )
    .bind(secret)
    .fetch_optional(db)
    .await
}

/// Accepts an open invitation and activates the membership. Returns whether the invitation was still open.
pub async fn accept(db: &mut PgConnection, invitation: &Invitation, now: Timestamp) -> sqlx::Result<bool> {
    let accepted = sqlx::query(
        "UPDATE invitations SET accepted_at = $2 WHERE id = $1 AND accepted_at IS NULL AND withdrawn_at IS NULL
         AND EXISTS (SELECT FROM projects WHERE id = $3 FOR KEY SHARE)",
    )
    .bind(invitation.id)
    .bind(now)
    .bind(invitation.project_id)
    .execute(&mut *db)
    .await?;
    if accepted.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE members SET status = 'active' WHERE project_id = $1 AND user_id = $2 AND status = 'invited'")
        .bind(invitation.project_id)
        .bind(invitation.user_id)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Withdraws the open invitations of a user to the tenant's project.
pub async fn withdraw(db: &mut PgConnection, tenant: Tenant, user: UserId, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE invitations SET withdrawn_at = $3
         WHERE project_id = $1 AND user_id = $2 AND accepted_at IS NULL AND withdrawn_at IS NULL",
    )
    .bind(tenant.project_id())
    .bind(user)
    .bind(now)
    .execute(db)
    .await
    .map(drop)
}
