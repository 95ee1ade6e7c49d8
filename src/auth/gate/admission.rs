//! Checks whether a caller's kind of credential, network, project and scopes allow an operation.

use std::{net::IpAddr, time::Duration};

use crate::base::{
    error::{Code, Error, Result},
    identity::{
        access_policy::{AccessPolicy, SelfAccess},
        caller::{Caller, ConsoleSession},
        secret::SecretKind,
        tenant::ProjectStatus,
    },
    runtime::clock::Timestamp,
    target::segments,
};

/// Checks whether `caller` may call an operation. The scopes of a session depend on the project, which is not known
/// yet, so the handler's grant checks them.
pub(crate) fn admit(caller: &Caller, policy: AccessPolicy, path: &str, client: Option<IpAddr>) -> Result<()> {
    if !policy.kinds().contains(&caller.kind()) {
        return Err(Error::new(
            Code::CredentialKindNotAllowed,
            format!("A {} cannot call this operation; use a {}", kind_name(caller.kind()), kind_names(policy.kinds())),
        ));
    }
    if !caller.bounds().is_none_or(|bounds| bounds.allows(client)) {
        let from = client.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        return Err(Error::new(
            Code::IpNotAllowed,
            format!(
                "This credential may not be used from {from}; use it from an address in its key's allowed_ips, or change allowed_ips"
            ),
        ));
    }
    require_active(caller)?;
    let AccessPolicy::Scoped { scopes: wanted, self_access, .. } = policy else { return Ok(()) };
    let scopes = match caller {
        Caller::Session { .. } => return Ok(()),
        Caller::Key { scopes, .. } | Caller::Token { scopes, .. } => scopes,
    };
    let targets_itself = || {
        let own = caller.credential_id().to_string();
        segments(path).any(|segment| *segment == *own.as_bytes())
    };
    match self_access {
        SelfAccess::ScopeNotRequired if targets_itself() => Ok(()),
        SelfAccess::KeySelfOnly if targets_itself() => Ok(()),
        SelfAccess::KeySelfOnly => Err(Error::new(
            Code::CredentialKindNotAllowed,
            "A key can call this operation only for itself; use its own ID, or a session (sess_…)",
        )),
        _ if scopes.contains_any(wanted) => Ok(()),
        _ => Err(Error::insufficient_scope(wanted)),
    }
}

/// Time for which a proof of identity of a console session's user is recent.
const RECENT: Duration = Duration::from_secs(15 * 60);

/// Checks that the user of a console session has proved recently who they are. Other credentials are not in a browser,
/// where somebody else could use them.
pub(crate) fn require_recent_authentication(caller: &Caller, now: Timestamp) -> Result<()> {
    match caller {
        Caller::Session { console: Some(ConsoleSession { authenticated_at }), .. }
            if authenticated_at.plus(RECENT) <= now =>
        {
            Err(Error::new(
                Code::ReauthenticationRequired,
                format!(
                    "You last proved who you are at {authenticated_at}, more than 15 minutes ago; do it again with POST /v1/sessions/current/reauthenticate, then repeat the request"
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// The keys and tokens of a project work only while the project is active.
fn require_active(caller: &Caller) -> Result<()> {
    let (code, status) = match caller.project_status() {
        None | Some(ProjectStatus::Active) => return Ok(()),
        Some(status @ ProjectStatus::Suspended) => (Code::ProjectSuspended, status),
        Some(status @ ProjectStatus::Archived) => (Code::ProjectArchived, status),
    };
    let status = status.as_str();
    Err(Error::new(
        code,
        format!("The project is {status}, so its keys and tokens do not work; an owner can resume it"),
    ))
}

fn kind_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Session => "session (sess_…)",
        SecretKind::Key => "key (sk_live_…)",
        SecretKind::Token => "token (cap_…)",
        SecretKind::Console => "console session",
        SecretKind::Invitation => "invitation (inv_…)",
        SecretKind::SignInLink => "sign-in link (lnk_…)",
    }
}

fn kind_names(kinds: &[SecretKind]) -> String {
    kinds.iter().copied().map(kind_name).collect::<Vec<_>>().join(" or a ")
}
