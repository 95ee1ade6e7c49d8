//! Requests of the console, which calls the API in the same process.
//!
//! The console reads its cookie and passes the secret on in a request extension. Requests from the network have no
//! extensions, so they cannot pass for the console's: the API reads no cookie, and a Bearer credential of this kind is
//! rejected. Behind that, a console session is authenticated like any other credential: from the same cache, under the
//! same lease.

use crate::base::identity::secret::{Secret, SecretKind};

/// Request extension of a request that the console makes.
#[derive(Clone, Debug)]
pub enum ConsoleRequest {
    /// Nobody is signed in. A session that is created by such a request is a console session.
    Anonymous,
    /// Console session that makes the request. It replaces the `Authorization` header.
    Session(ConsoleSecret),
}

/// Secret of a console session.
#[derive(Clone, Debug)]
pub struct ConsoleSecret(Secret);

impl ConsoleSecret {
    /// Recognizes the secret of a console session, valid or not, by its form. Other secrets are not accepted.
    pub fn parse(text: &str) -> Option<Self> {
        Secret::parse(text).filter(|secret| secret.kind() == SecretKind::Console).map(Self)
    }

    /// The secret.
    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secret_of_a_console_session_is_recognized() {
        for kind in SecretKind::ALL {
            let secret = Secret::generate(kind);
            assert_eq!(ConsoleSecret::parse(secret.expose()).is_some(), kind == SecretKind::Console, "{kind:?}");
        }
        assert!(ConsoleSecret::parse("cbs_").is_none() && ConsoleSecret::parse("").is_none());
    }
}
