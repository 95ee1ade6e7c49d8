//! Whether a caller may still do what was begun, for answers that last: an event stream goes on for hours, and must
//! end when its credential does. What lets it go on is what lets a request in: an entry of the node's cache whose
//! grounds have not been recalled, while the lease is good; else the database is read anew. So nothing is given to a
//! credential whose revocation was answered, and a good one costs no look into the database.

use std::sync::Arc;

use tokio::{sync::watch, time::timeout};

use super::{
    bearer::{Authenticator, READ_TIME, Seen, unavailable},
    cache::Entry,
    gate::{self, insufficient_scope},
};
use crate::{
    base::{
        caller::Caller,
        clock::since_boot,
        error::{Code, Error, Result},
        id::{ProjectId, UserId},
        need::Need,
        request::RequestContext,
        scope::Scope,
        subject::Subject,
    },
    users,
};

/// One caller's right to one scope in one project, looked at again and again.
#[derive(Debug)]
pub struct Watch {
    authenticator: Authenticator,
    request: Arc<RequestContext>,
    scope: Scope,
    need: Need,
    project: ProjectId,
    proof: Option<Proof>,
    recalls: watch::Receiver<u64>,
}

/// What shows that the caller still has it.
#[derive(Debug)]
struct Proof {
    seen: Seen,
    /// A session's right rests on its user's membership, too.
    membership: Option<Arc<Entry<()>>>,
}

impl Watch {
    /// Of the caller of `request`, who was let into `project` by what `need` asks for. Nothing is known yet.
    pub(super) fn new(
        authenticator: &Authenticator,
        request: &Arc<RequestContext>,
        (scope, need): (Scope, Need),
        project: ProjectId,
    ) -> Self {
        Self {
            authenticator: authenticator.clone(),
            request: Arc::clone(request),
            scope,
            need,
            project,
            proof: None,
            recalls: authenticator.node.recalls(),
        }
    }

    /// Returns when something was recalled since this was last asked. It need not have been this caller's.
    pub async fn recalled(&mut self) {
        if self.recalls.changed().await.is_err() {
            // The node has gone, and with it whoever could recall something.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the caller certainly still has the right, without asking the database. Never true where nothing is
    /// cached.
    pub fn holds(&self) -> bool {
        let Authenticator { node, clock } = &self.authenticator;
        let (Some(credentials), Some(proof)) = (&node.credentials, &self.proof) else { return false };
        // The pass before the entries, which it opens; see `lease`.
        let Some(pass) = credentials.lease().pass(since_boot()) else { return false };
        proof
            .seen
            .entry
            .as_ref()
            .is_some_and(|entry| entry.is_good(&pass) && entry.value.good_until.is_none_or(|end| clock.forward() < end))
            && proof.membership.as_ref().is_none_or(|entry| entry.is_good(&pass))
    }

    /// Whether nothing is known of it without asking the database.
    pub fn is_blind(&self) -> bool {
        self.authenticator.node.credentials.is_none()
    }

    /// Judges the caller as if the request came in now; refuses it as the request would be refused.
    pub async fn judge(&mut self) -> Result<()> {
        self.proof = None;
        let secret = self.request.secret.get().ok_or_else(|| Error::internal("a watched request shows no secret"))?;
        let seen = self.authenticator.see(secret).await?;
        gate::admit(&seen.caller, self.need, "", self.request.client)?;
        let membership = match *seen.caller {
            Caller::Session { user_id, .. } => self.judge_member(user_id).await?,
            Caller::Key { .. } | Caller::Token { .. } => None,
        };
        self.proof = Some(Proof { seen, membership });
        Ok(())
    }

    async fn judge_member(&self, user: UserId) -> Result<Option<Arc<Entry<()>>>> {
        let node = &self.authenticator.node;
        // The mark before the database is read, so that nothing recalled in between is missed.
        let mark = node.credentials.as_ref().and_then(|credentials| Some((credentials, credentials.lease().mark()?)));
        let reading = async {
            let mut db = node.db.acquire().await?;
            users::repo::membership_of(&mut db, self.project, user).await.map_err(Error::from)
        };
        let membership = match timeout(READ_TIME, reading).await {
            Err(_) => return Err(unavailable()),
            Ok(Err(error)) if error.code() == Code::DatabaseUnavailable => return Err(unavailable().caused_by(error)),
            Ok(membership) => membership?.ok_or_else(Error::not_found)?,
        };
        if !membership.role.scopes().contains(self.scope) {
            return Err(insufficient_scope(self.scope));
        }
        let grounds = [Subject::Member(self.project, user), Subject::Project(self.project)];
        Ok(mark.and_then(|(credentials, mark)| credentials.entry(mark, (), &grounds)))
    }
}
