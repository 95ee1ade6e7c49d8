//! How a command ends other than by success or a plain error.

use std::fmt;

/// Outcome that determines the exit status.
#[derive(Debug)]
pub enum CommandError {
    /// The command has already reported the failure: status 1.
    Reported,
    /// The command could not start or could not determine the result, for example because of an invalid setting: status
    /// 2.
    CannotRun(anyhow::Error),
    /// The reader of the output closed the pipe: status 0.
    OutputClosed,
}

impl CommandError {
    /// Wraps `error` as [`CommandError::CannotRun`].
    pub fn cannot_run(error: anyhow::Error) -> anyhow::Error {
        Self::CannotRun(error).into()
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported | Self::OutputClosed => Ok(()),
            Self::CannotRun(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for CommandError {}
