//! How a command ends that did not succeed, where that is more than an error.

use std::fmt;

/// What the process exits with tells it.
#[derive(Debug)]
pub enum Ended {
    /// It has said what was to say: 1.
    Said,
    /// It could not find out what it was asked, or could not begin, as with an invalid setting: 2.
    Unable(anyhow::Error),
    /// Nobody reads the rest of what it writes: 0.
    Unread,
}

impl Ended {
    /// It could not find out, because of this.
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
