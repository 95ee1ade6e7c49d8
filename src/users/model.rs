//! What a user is, to the server and to clients.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        email::Email,
        etag::{EntityTag, Versioned},
        id::{ProjectId, UserId},
        page::ListQuery,
        patch::Replace,
        role::Role,
        schema::{input, patch},
        secret::Secret,
        text::NO_CONTROL_CHARACTERS,
    },
};

/// Whether a member has accepted their invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum MemberStatus {
    /// Not yet; until then they may do nothing.
    Invited,
    /// They have.
    Active,
}

/// Somebody who is in a project, or invited to it.
// As the database has it and as clients see it: no secret is near.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "User")]
pub struct Member {
    /// The user's id. Until the invitation is accepted, an id of the invitation's own.
    pub id: UserId,
    /// The account, which is not shown before its owner accepts: ids carry time.
    #[serde(skip)]
    pub account_id: UserId,
    /// Where they can be written to, and what they sign in with.
    pub email: Email,
    /// What they may do in this project.
    pub role: Role,
    /// Whether they have accepted their invitation.
    pub status: MemberStatus,
    /// Creation time of the account; until the invitation is accepted, of the invitation.
    pub created_at: Timestamp,
}

impl Audited for Member {}

impl Versioned for Member {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

/// A user with what is needed to sign them in.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Account {
    /// The user.
    pub id: UserId,
    /// Their address.
    pub email: Email,
    /// Argon2id in PHC form, if they have set a password.
    pub password_hash: Option<String>,
}

/// The filter of the list of users.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// Only users who have this role.
    pub role: Option<Role>,
}

/// Whom to invite, and as what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The project to invite them to.
    pub project_id: ProjectId,
    /// Their e-mail address.
    pub email: Email,
    /// What they may do there, at most what you may.
    pub role: Role,
}

/// An invited user, as they are given to whoever invites them, once, with the invitation's secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InvitedUser {
    /// The secret with which they accept (`POST /v1/invitations/accept`); hand it to them and to nobody
    /// else. Shown this once; it works for 7 days.
    pub invitation: Secret,
    /// Everything else about them.
    #[serde(flatten)]
    pub member: Member,
}

impl Versioned for InvitedUser {
    fn etag(&self) -> EntityTag {
        self.member.etag()
    }
}

/// What changes; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserPatch {
    /// What they may do in the project, at most what you may.
    pub role: Replace<Role>,
}

/// What removing a user from a project answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemovedUser {
    /// The user's id.
    pub id: UserId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub removed: bool,
}

/// An invitation that is accepted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The invitation's secret, `inv_…`.
    #[schemars(with = "String", regex(pattern = "^inv_[0-9A-Za-z]{49}$"), extend("writeOnly" = true, "x-form" = "an invitation's secret, which is inv_ and 49 letters and digits; copy it whole"))]
    pub token: SecretString,
    /// For a new e-mail address the password to sign in with, 12 to 128 characters and none that is guessed
    /// first; for a known one the password it has.
    #[schemars(with = "String", length(min = 1, max = 128), regex(pattern = NO_CONTROL_CHARACTERS), extend("format" = "password", "writeOnly" = true))]
    pub password: SecretString,
}

/// A password that changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password as it is.
    #[schemars(with = "String", length(max = 1024), extend("format" = "password", "writeOnly" = true), example = "correct horse battery staple")]
    pub current_password: SecretString,
    /// The password as it shall be; none that is guessed first.
    #[schemars(with = "String", length(min = 12, max = 128), regex(pattern = NO_CONTROL_CHARACTERS), extend("format" = "password", "writeOnly" = true), example = "correct horse battery staple")]
    pub new_password: SecretString,
}

/// What changing a password answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedPassword {
    /// The user's id.
    pub id: UserId,
    /// How many other sessions of theirs it ended.
    #[schemars(range(min = 0))]
    pub sessions_revoked: u64,
}

patch!(UserPatch);
input!(NewUser, Acceptance, PasswordChange, ListQuery<UserFilter>);
