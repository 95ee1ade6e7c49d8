//! Timeline of work that takes time: each step with its state, its progress and its error.

use askama::Template;

use super::{
    html_safe,
    status::{Badge, Tone},
    time::When,
};

/// Steps, in the order of the page.
#[derive(Clone, Debug, Template)]
#[template(path = "components/timeline.html")]
pub struct Steps {
    /// Steps.
    pub entries: Vec<Step>,
}

/// Step of a timeline.
#[derive(Clone, Debug)]
pub struct Step {
    /// Meaning.
    pub tone: Tone,
    /// What happens.
    pub title: String,
    /// Page of the step.
    pub path: Option<String>,
    /// State.
    pub badge: Option<Badge>,
    /// Progress in percent, while it is not done.
    pub progress: Option<i16>,
    /// More about it.
    pub text: Option<String>,
    /// When.
    pub when: Option<When>,
}

html_safe!(Steps);
