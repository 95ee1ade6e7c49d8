//! `/v1/users`: who is in a project, and as what.

use axum::extract::State;

use super::{
    invitations,
    model::{
        Account, ChangedPassword, InvitedUser, Member, MemberStatus, NewUser, PasswordChange, RemovedUser, UserFilter,
        UserPatch,
    },
    repo,
};
use crate::{
    auth::{
        grant::{Grant, Session, SessionOnly},
        password_rules,
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{self, Id, InvitationId, UserId},
        page::{InProject, ListQuery},
        role::Role,
        scope::of::{UsersRead, UsersWrite},
        secret::{Secret, SecretKind},
        subject::Subject,
        tenant::Tenant,
    },
    db,
    http::{
        extract::{JsonBody, PathId, Query},
        reply::{Created, Issued, Json, List},
    },
    sessions,
    state::App,
    tokens,
    tx::{Change, Once, Tx, first},
};

/// The users visible to the caller's project.
pub async fn list(
    grant: Grant<UsersRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<UserFilter>>,
) -> Result<List<Member>> {
    let page = query.page()?;
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, query.filter.role, &page).await?;
    Ok(List::new(page, grant.request().id))
}

/// One of them.
pub async fn get(
    grant: Grant<UsersRead>,
    State(app): State<App>,
    PathId(id): PathId<id::User>,
    Query(query): Query<InProject>,
) -> Result<Json<Member>> {
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.project_id.as_deref()).await?;
    repo::get(&mut db, tenant, id).await?.map(Json).ok_or_else(Error::not_found)
}

/// Invites somebody to a project.
pub async fn create(
    grant: Grant<UsersWrite, SessionOnly>,
    State(app): State<App>,
    body: JsonBody<NewUser>,
) -> Result<Once<Issued<InvitedUser>>> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_for_write(tx.db(), body.project_id()?).await?;
    let (mut tx, new) = first!(tx.open(body).await?);
    tenant.reach(new.role)?;
    tenant.require_active()?;
    let user = repo::find_or_insert(tx.db(), UserId::new(), &new.email, now).await?;
    let invitation = InvitationId::new();
    repo::insert_invited(tx.db(), tenant.project_id(), user.id, invitation, new.role, now).await.map_err(|error| {
        match db::violated_constraint(&error) {
            Some("members_pkey") => Error::new(
                Code::AlreadyMember,
                format!("{} is in this project, or invited to it; remove them first to invite them again", new.email),
            ),
            _ => error.into(),
        }
    })?;
    let secret = Secret::generate(SecretKind::Invitation);
    invitations::insert(tx.db(), tenant, (invitation, user.id), &secret, grant.caller().user_id(), now).await?;
    let member = repo::get(tx.db(), tenant, invitations::shown_as(invitation)).await?.ok_or_else(Error::not_found)?;
    let location = format!("/v1/users/{}", member.id);
    let change = Change::new(Action::UserInvited, member.id, Some(tenant.project_id())).created(&member);
    tx.commit(change, Issued(Created { location, body: InvitedUser { invitation: secret, member } })).await
}

/// Gives a member another role.
pub async fn update(
    grant: Grant<UsersWrite, SessionOnly>,
    State(app): State<App>,
    PathId(id): PathId<id::User>,
    Query(query): Query<InProject>,
    body: JsonBody<UserPatch>,
) -> Result<Once<Json<Member>>> {
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = enter_to_change_members(&grant, &mut tx, &query).await?;
    let (mut tx, patch) = first!(tx.open(body).await?);
    let member = member_within_reach(&mut tx, tenant, id).await?;
    if let Some(role) = patch.role {
        tenant.reach(role)?;
    }
    tenant.require_active()?;
    let role = patch.role.unwrap_or(member.role);
    if role != Role::Owner {
        require_another_owner(&mut tx, tenant, &member).await?;
    }
    if !repo::set_role(tx.db(), tenant, id, role).await? {
        // They have accepted in the meantime, and are shown under another id.
        return Err(Error::not_found());
    }
    tx.recall(Subject::Member(tenant.project_id(), member.account_id));
    let updated = Member { role, ..member.clone() };
    let change = Change::new(Action::UserUpdated, id, Some(tenant.project_id())).updated(&member, &updated);
    tx.commit(change, Json(updated)).await
}

/// Takes somebody out of a project, or withdraws their invitation to it.
pub async fn remove(
    grant: Grant<UsersWrite, SessionOnly>,
    State(app): State<App>,
    PathId(id): PathId<id::User>,
    Query(query): Query<InProject>,
) -> Result<Json<RemovedUser>> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = enter_to_change_members(&grant, &mut tx, &query).await?;
    let member = member_within_reach(&mut tx, tenant, id).await?;
    require_another_owner(&mut tx, tenant, &member).await?;
    // The membership first: it waits for tokens being issued under it, and the next statement sees them.
    if !repo::remove_member(tx.db(), tenant, id).await? {
        // They have accepted in the meantime, and are shown under another id.
        return Err(Error::not_found());
    }
    tokens::repo::revoke_issued_by_member(tx.db(), tenant, member.account_id, now).await?;
    invitations::withdraw(tx.db(), tenant, member.account_id, now).await?;
    tx.recall(Subject::Member(tenant.project_id(), member.account_id));
    let change = Change::new(Action::UserRemoved, id, Some(tenant.project_id())).deleted(&member);
    tx.commit(change, Json(RemovedUser { id, removed: true })).await
}

async fn enter_to_change_members(
    grant: &Grant<UsersWrite, SessionOnly>,
    tx: &mut Tx,
    query: &InProject,
) -> Result<Tenant> {
    let named = query.project_id.as_deref();
    if let Some(project) = named {
        repo::lock_members(tx.db(), project.parse().unwrap_or(Id::NOTHING)).await?;
    }
    grant.in_project_for_write(tx.db(), named).await
}

async fn member_within_reach(tx: &mut Tx, tenant: Tenant, id: UserId) -> Result<Member> {
    let member = repo::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.reach(member.role)?;
    Ok(member)
}

/// Whether the project still has an owner without `member`.
async fn require_another_owner(tx: &mut Tx, tenant: Tenant, member: &Member) -> Result<()> {
    let owns = member.role == Role::Owner && member.status == MemberStatus::Active;
    if !owns || repo::has_other_owner(tx.db(), tenant, member.account_id).await? {
        return Ok(());
    }
    Err(Error::new(Code::LastOwner, "They are the project's last owner; make somebody else an owner first"))
}

/// Changes the caller's password, and ends their other sessions.
pub async fn change_password(
    session: Session,
    State(app): State<App>,
    body: JsonBody<PasswordChange>,
) -> Result<Json<ChangedPassword>> {
    let PasswordChange { current_password, new_password } = body.validate()?;
    let account = repo::account(&mut *app.db.acquire().await?, session.user_id).await?;
    let Account { email, password_hash: stored, .. } = account.ok_or_else(|| {
        Error::new(Code::TokenRevoked, "This session's user is gone, and the session with them; sign in as another")
    })?;
    password_rules::check(&new_password, &email)
        .map_err(|unfit| Error::invalid_member("/new_password", unfit.code(), unfit.to_string()))?;
    // As at sign-in: a stolen session guesses no faster than anybody else.
    let address = email.to_string();
    let proof = app.passwords.prove(&address, current_password, stored.clone(), app.clock.now());
    if session.request.while_awaited(proof).await?.is_none() {
        let change = Change::refused(Action::UserPasswordChanged, Some(session.user_id));
        app.writes.refused(&session.request, change).await?;
        return Err(Error::new(
            Code::InvalidCurrentPassword,
            "'current_password' is not your password; check it, or ask the operator to set a new one",
        ));
    }
    let hash = session.request.while_awaited(app.passwords.hash(new_password)).await?;
    let mut tx = app.writes.begin(&session.request).await?;
    if !repo::replace_password_hash(tx.db(), session.user_id, stored.as_deref(), &hash).await? {
        return Err(Error::new(
            Code::InvalidCurrentPassword,
            "Your password was changed by another request meanwhile; sign in with the new one",
        ));
    }
    let sessions_revoked = sessions::repo::revoke_others(tx.db(), session.user_id, session.id, app.clock.now()).await?;
    // The other sessions rest on their user.
    tx.recall(Subject::User(session.user_id));
    let change =
        Change::new(Action::UserPasswordChanged, session.user_id, None).with("sessions_revoked", sessions_revoked);
    tx.commit(change, Json(ChangedPassword { id: session.user_id, sessions_revoked })).await
}
