//! Badges and empty states.

use std::fmt;

use askama::Template;

use super::html_safe;
use crate::base::identity::{credential::CredentialStatus, tenant::ProjectStatus};

/// Meaning of a badge. The text says the same, so that color is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// No meaning.
    Neutral,
    /// It works.
    Good,
    /// It needs attention.
    Warn,
    /// It does not work.
    Bad,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Neutral => "neutral",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        })
    }
}

/// Short status.
#[derive(Clone, Debug, Template)]
#[template(source = r#"<span class="badge {{ tone }}">{{ text }}</span>"#, ext = "html")]
pub struct Badge {
    tone: Tone,
    text: String,
}

impl Badge {
    /// Creates a badge.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

impl From<CredentialStatus> for Badge {
    fn from(status: CredentialStatus) -> Self {
        match status {
            CredentialStatus::Active => Self::new(Tone::Good, "Active"),
            CredentialStatus::Expired => Self::new(Tone::Neutral, "Expired"),
            CredentialStatus::Revoked => Self::new(Tone::Bad, "Revoked"),
        }
    }
}

impl From<&ProjectStatus> for Badge {
    fn from(status: &ProjectStatus) -> Self {
        match status {
            ProjectStatus::Active => Self::new(Tone::Good, "Active"),
            ProjectStatus::Suspended => Self::new(Tone::Warn, "Suspended"),
            ProjectStatus::Archived => Self::new(Tone::Neutral, "Archived"),
        }
    }
}

/// What a page shows instead of a list without items: what would be here, and what to do next.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<div class="empty"><h2>{{ title }}</h2><p>{{ text }}</p>{% if let Some((label, path)) = action %}<p><a class="button primary" href="{{ path }}">{{ label }}</a></p>{% endif %}</div>"#,
    ext = "html"
)]
pub struct Empty {
    title: String,
    text: String,
    action: Option<(String, String)>,
}

impl Empty {
    /// Creates an empty state.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: text.into(), action: None }
    }

    /// Adds a link to what to do next.
    #[must_use]
    pub fn action(mut self, label: impl Into<String>, path: impl Into<String>) -> Self {
        self.action = Some((label.into(), path.into()));
        self
    }
}

html_safe!(Badge, Empty);
