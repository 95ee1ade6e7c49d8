//! Memberships, which decide what a user's sessions may do in a project.

use sqlx::PgConnection;

use crate::{
    base::{
        id::{ProjectId, UserId},
        identity::tenant::Membership,
    },
    db::Stamped,
};

/// A user's membership in a project. None for an invited user.
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

/// Like [`membership_of`]. Also locks the role until the transaction ends.
pub async fn lock_membership_of(
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
) -> sqlx::Result<Stamped<Option<Membership>>> {
    // A subquery, because the nullable side of an outer join cannot be locked.
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
