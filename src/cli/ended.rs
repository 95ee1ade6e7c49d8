//! How a command ends other than by success or a plain error.

use std::fmt;

/// Outcome that determines the exit status.
#[derive(Debug)]
pub enum Ended {
    /// The command has already reported the failure: status 1.
    Said,
    /// The command could not start or could not determine the result, for example because of an invalid setting: status
    /// 2.
    Unable(anyhow::Error),
    /// The reader of the output closed the pipe: status 0.
    Unread,
}

impl Ended {
    /// Wraps `error` as [`Ended::Unable`].
    pub fn unable(error: anyhow::Error) -> anyhow::Error {
        Self::Unable(error).into()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said | Self::Unread => Ok(()),
            Self::Unable(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Ended {}
