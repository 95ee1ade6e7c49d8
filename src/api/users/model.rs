//! Types of users, and the shapes of requests and responses.

use std::ops::Deref;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    api::sessions::model::{LINK, LINK_FORM, SessionView},
    audit::model::Audited,
    base::{
        error::{Error, ItemCode, Result},
        etag::{EntityTag, Versioned},
        id::{ProjectId, UserId},
        identity::{role::Role, secret::Secret, tenant::ProjectStatus},
        input::{
            email::Email,
            page::ListQuery,
            patch::Replace,
            schema::{input, patch},
            text::NO_CONTROL_CHARACTERS,
        },
        runtime::clock::Timestamp,
    },
};

/// Whether a member has accepted the invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum MemberStatus {
    /// Not yet accepted. The member has no access until then.
    Invited,
    /// Accepted.
    Active,
}

/// A member of a project, or a person who is invited to it.
// The database row is also the API view, because it has no secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "User")]
pub struct Member {
    /// User ID. Until the invitation is accepted, a separate ID of the invitation.
    pub id: UserId,
    /// Email address, also used to sign in.
    pub email: Email,
    /// Role in the project.
    pub role: Role,
    /// Whether the invitation was accepted.
    pub status: MemberStatus,
    /// Creation time of the account. Until the invitation is accepted, of the invitation.
    pub created_at: Timestamp,
}

/// A member and its account. Separate, because lists do not need the account.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct MemberAccount {
    /// Account of the user. Not shown before the invitation is accepted, because IDs contain a time.
    pub account_id: UserId,
    /// The member.
    #[sqlx(flatten)]
    pub member: Member,
}

impl Deref for MemberAccount {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

impl Audited for Member {}

impl Versioned for Member {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

/// The profile of a session's user.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// User ID.
    pub id: UserId,
    /// Email address, also used to sign in.
    pub email: Email,
    /// Creation time of the account.
    pub created_at: Timestamp,
    /// Whether the user has set a password. Without one, the user signs in with links from the operator.
    pub has_password: bool,
    /// The session that sent the request.
    pub session: SessionView,
    /// Memberships in projects, at most 100, in the order of `GET /v1/projects`.
    #[schemars(length(max = 100))]
    pub memberships: Vec<ProfileMembership>,
    /// Whether the user has more memberships. `GET /v1/projects` lists all projects.
    pub has_more_memberships: bool,
}

impl Versioned for Profile {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["session"])
    }
}

/// Membership of a session's user in a project.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "ProfileMembership")]
pub struct ProfileMembership {
    /// Project ID.
    pub project_id: ProjectId,
    /// Name of the project.
    pub project_name: String,
    /// Status of the project.
    pub project_status: ProjectStatus,
    /// Role in the project.
    pub role: Role,
}

/// A session's user, as stored in the database.
#[derive(Debug, sqlx::FromRow)]
pub struct ProfileAccount {
    /// Email address.
    pub email: Email,
    /// Creation time.
    pub created_at: Timestamp,
    /// Whether the user has set a password.
    pub has_password: bool,
}

/// Filter of the list of users.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Only users with this role.
    pub role: Option<Role>,
    /// Only users whose email address contains this text, in upper or lower case.
    #[schemars(length(min = 1, max = 254), regex(pattern = NO_CONTROL_CHARACTERS), example = &"ada@")]
    pub email: Option<String>,
}

/// Request to invite a user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Project to invite the user to.
    pub project_id: ProjectId,
    /// Email address of the user.
    pub email: Email,
    /// Role in the project, at most your own.
    pub role: Role,
}

/// An invited user, with the secret of the invitation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvitedUser {
    /// Secret to accept the invitation with (`POST /v1/invitations/accept`). Give it only to the invited person. Shown
    /// only once, and valid for 7 days.
    pub invitation: Secret,
    /// The invited user.
    #[serde(flatten)]
    pub member: Member,
}

impl Versioned for InvitedUser {
    fn etag(&self) -> EntityTag {
        self.member.etag()
    }
}

/// Fields of a user to change. Omitted fields keep their value.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserPatch {
    /// Role in the project, at most your own.
    pub role: Replace<Role>,
}

/// Result of removing a user from a project, also if the user was removed before.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemovedUser {
    /// User ID.
    pub id: UserId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub removed: bool,
}

/// Request to accept an invitation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Secret of the invitation, `inv_…`.
    #[schemars(with = "String", regex(pattern = "^inv_[0-9A-Za-z]{49}$"), extend("writeOnly" = true, "x-form" = "the secret of an invitation, which is inv_ and 49 letters and digits; copy it completely"))]
    pub token: SecretString,
    /// For a new email address, the password to set: 12 to 128 characters, and not a common password. For a known email
    /// address, its current password.
    #[schemars(with = "String", length(min = 1, max = 128), regex(pattern = NO_CONTROL_CHARACTERS), extend("format" = "password", "writeOnly" = true))]
    pub password: SecretString,
}

/// Request to change the password: with the current password, or with a sign-in link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["current_password"] }, { "required": ["sign_in_link"] }]))]
pub struct PasswordChange {
    /// Current password.
    #[schemars(with = "Option<String>", length(max = 1024), extend("format" = "password", "writeOnly" = true), example = "correct horse battery staple")]
    pub current_password: Option<SecretString>,
    /// Secret of a sign-in link of the session's user, `lnk_…`, instead of the current password.
    #[schemars(with = "Option<String>", regex(pattern = LINK), extend("writeOnly" = true, "x-form" = LINK_FORM))]
    pub sign_in_link: Option<SecretString>,
    /// New password. Common passwords are rejected.
    #[schemars(with = "String", length(min = 12, max = 128), regex(pattern = NO_CONTROL_CHARACTERS), extend("format" = "password", "writeOnly" = true), example = "correct horse battery staple")]
    pub new_password: SecretString,
}

/// Proof that a user may set a new password.
#[derive(Debug)]
pub enum PasswordProof {
    /// Current password.
    Password(SecretString),
    /// Secret of a sign-in link.
    Link(SecretString),
}

impl PasswordChange {
    /// Proof that the user may set the new password, and the new password.
    pub fn proof(self) -> Result<(PasswordProof, SecretString)> {
        let proof = match (self.current_password, self.sign_in_link) {
            (Some(password), None) => PasswordProof::Password(password),
            (None, Some(link)) => PasswordProof::Link(link),
            _ => {
                return Err(Error::invalid_member(
                    "/sign_in_link",
                    ItemCode::InvalidFormat,
                    "cannot be combined with 'current_password'; send one of them",
                ));
            }
        };
        Ok((proof, self.new_password))
    }
}

/// Result of changing the password.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedPassword {
    /// User ID.
    pub id: UserId,
    /// Number of other sessions of the user that were revoked.
    #[schemars(range(min = 0))]
    pub sessions_revoked: u64,
}

patch!(UserPatch);
input!(NewUser, Acceptance, PasswordChange, ListQuery<UserFilter>);
