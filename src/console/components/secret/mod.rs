//! Texts to copy, and secrets that are shown once.

use askama::Template;

use crate::console::components::html_safe;

/// Text with a button that copies it.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<span class="copy"><code>{{ text }}</code><button type="button" class="icon-button js" data-copy="{{ text }}" aria-label="Copy {{ label }}">Copy</button></span>"#,
    ext = "html"
)]
pub struct Copy {
    text: String,
    label: String,
}

impl Copy {
    /// Creates a text to copy. `label` names it: "the key ID".
    pub fn new(text: impl Into<String>, label: impl Into<String>) -> Self {
        Self { text: text.into(), label: label.into() }
    }
}

/// Secret that is shown once, with a command that uses it.
#[derive(Clone, Debug, Template)]
#[template(path = "components/secret/secret.html")]
pub struct SecretOnce {
    /// What the secret is: "Secret key".
    pub label: String,
    /// The secret.
    pub secret: String,
    /// A command that uses it.
    pub command: Option<String>,
}

html_safe!(Copy, SecretOnce);
