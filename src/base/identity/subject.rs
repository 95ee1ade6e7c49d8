//! Dependencies of a credential: objects whose changes affect what the credential may do.

use std::{fmt, str::FromStr};

use crate::base::id::{KeyId, ParseIdError, ProjectId, SessionId, TokenId, UserId};

/// Object that a credential depends on. Its text form is the object's id, or the ids of project and user for a
/// membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Session.
    Session(SessionId),
    /// Key, including all of its secrets.
    Key(KeyId),
    /// Token.
    Token(TokenId),
    /// User, on whom their sessions depend.
    User(UserId),
    /// Project, on which its keys and tokens depend.
    Project(ProjectId),
    /// A user's membership in a project, on which the tokens depend that the user's sessions issued.
    Member(ProjectId, UserId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "{id}"),
            Self::Key(id) => write!(f, "{id}"),
            Self::Token(id) => write!(f, "{id}"),
            Self::User(id) => write!(f, "{id}"),
            Self::Project(id) => write!(f, "{id}"),
            Self::Member(project, user) => write!(f, "{project}/{user}"),
        }
    }
}

impl FromStr for Subject {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if let Some((project, user)) = text.split_once('/') {
            return Ok(Self::Member(project.parse()?, user.parse()?));
        }
        (text.parse().map(Self::Session))
            .or_else(|_| text.parse().map(Self::Key))
            .or_else(|_| text.parse().map(Self::Token))
            .or_else(|_| text.parse().map(Self::User))
            .or_else(|_| text.parse().map(Self::Project))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_round_trips_as_text() {
        for subject in [
            Subject::Session(SessionId::new()),
            Subject::Key(KeyId::new()),
            Subject::Token(TokenId::new()),
            Subject::User(UserId::new()),
            Subject::Project(ProjectId::new()),
            Subject::Member(ProjectId::new(), UserId::new()),
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        assert_eq!("inv_3e7".parse::<Subject>(), Err(ParseIdError));
    }
}
