//! `/v1/users`: members of projects and their roles.

use axum::extract::State;

use super::{
    invitations,
    model::{InvitedUser, Member, MemberAccount, MemberStatus, NewUser, RemovedUser, UserFilter, UserPatch},
    repo,
};
use crate::{
    auth::grant::{Grant, SessionOnly},
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{self, Id, ProjectId, UserId},
        identity::{
            role::Role,
            scope::of::{UsersRead, UsersWrite},
            secret::{Secret, SecretKind},
            subject::Subject,
            tenant::Tenant,
        },
        input::page::{ListQuery, ProjectIdFilter},
        runtime::clock::Timestamp,
    },
    db::deletions::{self, Deletion},
    http::{
        request::extract::{JsonBody, PathId, Query},
        response::{Created, Issued, Json, List, WithEtag},
    },
    tx::{Change, Effect, Idempotent, Store, Tx, begin_or_replay},
};

/// Lists the members of a project.
pub async fn list(
    grant: Grant<UsersRead>,
    State(store): State<Store>,
    Query(query): Query<ListQuery<UserFilter>>,
) -> Result<List<Member>> {
    let page = query.page()?;
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &query.filter, &page).await?;
    Ok(List::new(page, grant.request().id))
}

/// Returns a member of a project.
pub async fn get(
    grant: Grant<UsersRead>,
    State(store): State<Store>,
    PathId(id): PathId<id::User>,
    Query(query): Query<ProjectIdFilter>,
) -> Result<WithEtag<Member>> {
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.project_id.as_deref()).await?;
    repo::get(&mut db, tenant, id).await?.map(|found| WithEtag(found.member)).ok_or_else(Error::not_found)
}

/// Invites a user to a project.
pub async fn create(
    grant: Grant<UsersWrite, SessionOnly>,
    State(store): State<Store>,
    body: JsonBody<NewUser>,
) -> Result<Idempotent<Issued<InvitedUser>>> {
    let now = store.clock.now();
    let tenant = grant.in_project_on(&store.db, body.project_id()?).await?;
    store.writes.execute_single(grant.request(), body, |new| invite(&grant, tenant, new, now)).await
}

/// Prepares an invitation, if the caller may invite.
fn invite(
    grant: &Grant<UsersWrite, SessionOnly>,
    tenant: Tenant,
    new: NewUser,
    now: Timestamp,
) -> Result<Effect<Issued<InvitedUser>>> {
    let NewUser { project_id: _, email, role } = new;
    tenant.check_role(role)?;
    tenant.require_active()?;
    let secret = Secret::generate(SecretKind::Invitation);
    let (call, member) = invitations::create(tenant, (email, role), &secret, grant.caller().user_id(), now);
    let change = Change::new(Action::UserInvited, member.id, Some(tenant.project_id())).created(&member);
    let location = format!("/v1/users/{}", member.id);
    let response = Issued(Created { location, body: InvitedUser { invitation: secret, member } });
    Ok(Effect { call: grant.require_still(tenant, call), change, response })
}

/// Changes a member's role.
pub async fn update(
    grant: Grant<UsersWrite, SessionOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::User>,
    Query(query): Query<ProjectIdFilter>,
    body: JsonBody<UserPatch>,
) -> Result<Idempotent<WithEtag<Member>>> {
    let mut tx = store.writes.begin(grant.request()).await?;
    let tenant = admit_and_lock_members(&grant, &mut tx, &query).await?;
    let (mut tx, patch) = begin_or_replay!(tx.begin_idempotent(body).await?);
    let member = manageable_member(&mut tx, tenant, id).await?;
    if let Some(role) = patch.role.0 {
        tenant.check_role(role)?;
    }
    tx.require_match(&*member)?;
    tenant.require_active()?;
    let role = patch.role.0.unwrap_or(member.role);
    if role != Role::Owner {
        require_another_owner(&mut tx, tenant, &member).await?;
    }
    if !repo::set_role(tx.db(), tenant, id, role).await? {
        // The invitation was accepted meanwhile, so the user has another public ID.
        return Err(Error::not_found());
    }
    tx.invalidate(Subject::Member(tenant.project_id(), member.account_id));
    let updated = Member { role, ..member.member.clone() };
    let change = Change::new(Action::UserUpdated, id, Some(tenant.project_id())).updated(&*member, &updated);
    tx.commit(change, WithEtag(updated)).await
}

/// Removes a member from a project, or withdraws an invitation.
pub async fn remove(
    grant: Grant<UsersWrite, SessionOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::User>,
    Query(query): Query<ProjectIdFilter>,
) -> Result<Json<RemovedUser>> {
    let now = store.clock.now();
    let mut tx = store.writes.begin(grant.request()).await?;
    let reply = Json(RemovedUser { id, removed: true });
    let tenant = match admit_and_lock_members(&grant, &mut tx, &query).await {
        Err(error) if error.code() == Code::NotFound => {
            let project = query.project_id.as_deref().and_then(|project| project.parse().ok());
            let project = find_repeated_own_removal(&grant, &mut tx, project, id).await?.ok_or(error)?;
            return replay_removal(tx, project, reply).await;
        }
        admitted => admitted?,
    };
    let Some(member) = repo::get(tx.db(), tenant, id).await? else {
        let deletion = deletions::find(tx.db(), tenant.project_id(), id).await?;
        tenant.check_role(deletion.and_then(|deletion| deletion.role).ok_or_else(Error::not_found)?)?;
        return replay_removal(tx, tenant.project_id(), reply).await;
    };
    tenant.check_role(member.role)?;
    tx.require_match(&*member)?;
    require_another_owner(&mut tx, tenant, &member).await?;
    // A user who leaves is not in the project any more when the request is repeated.
    let repeatable_by = grant.caller().user_id().filter(|caller| *caller == id).into_iter().collect();
    let deletion = Deletion { role: Some(member.role), repeatable_by };
    deletions::record(tx.db(), tenant.project_id(), id, deletion, now).await?;
    if !repo::remove_member(tx.db(), tenant, id).await? {
        // The invitation was accepted meanwhile, so the user has another public ID.
        return Err(Error::not_found());
    }
    invitations::withdraw(tx.db(), tenant, member.account_id, now).await?;
    tx.invalidate(Subject::Member(tenant.project_id(), member.account_id));
    let change = Change::new(Action::UserRemoved, id, Some(tenant.project_id())).deleted(&*member);
    tx.commit(change, reply).await
}

/// Returns the project if the caller has left it and repeats that request.
async fn find_repeated_own_removal(
    grant: &Grant<UsersWrite, SessionOnly>,
    tx: &mut Tx,
    project: Option<ProjectId>,
    id: UserId,
) -> Result<Option<ProjectId>> {
    let (Some(project), Some(caller)) = (project, grant.caller().user_id()) else { return Ok(None) };
    let deletion = deletions::find(tx.db(), project, id).await?;
    Ok(deletion.is_some_and(|deletion| deletion.repeatable_by.contains(&caller)).then_some(project))
}

/// Responds to a repeated removal, and waits for its confirmation like the first one.
async fn replay_removal(mut tx: Tx, project: ProjectId, reply: Json<RemovedUser>) -> Result<Json<RemovedUser>> {
    let Json(RemovedUser { id, .. }) = reply;
    tx.waive_preconditions();
    tx.invalidate(Subject::Member(project, id));
    tx.commit_unchanged(reply).await
}

async fn admit_and_lock_members(
    grant: &Grant<UsersWrite, SessionOnly>,
    tx: &mut Tx,
    query: &ProjectIdFilter,
) -> Result<Tenant> {
    let project_id = query.project_id.as_deref();
    if let Some(project) = project_id {
        repo::lock_members(tx.db(), project.parse().unwrap_or(Id::NIL)).await?;
    }
    grant.in_project_for_write(tx.db(), project_id).await
}

async fn manageable_member(tx: &mut Tx, tenant: Tenant, id: UserId) -> Result<MemberAccount> {
    let member = repo::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.check_role(member.role)?;
    Ok(member)
}

/// An error if the project has no owner without `member`.
async fn require_another_owner(tx: &mut Tx, tenant: Tenant, member: &MemberAccount) -> Result<()> {
    let is_active_owner = member.role == Role::Owner && member.status == MemberStatus::Active;
    if !is_active_owner || repo::has_other_owner(tx.db(), tenant, member.account_id).await? {
        return Ok(());
    }
    Err(Error::new(Code::LastOwner, "This user is the last owner of the project; make another user an owner first"))
}
