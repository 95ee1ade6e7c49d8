//! How a command ends that did not succeed, where that is more than an error.

use std::fmt;

/// What the process exits with tells it.
#[derive(Debug)]
pub enum Ended {
    /// It has said what was to say: 1.
    Said,
    /// It could not find out what it was asked: 2.
    Unable(anyhow::Error),
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
            Self::Said => Ok(()),
            Self::Unable(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Ended {}
