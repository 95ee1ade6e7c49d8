//! Lists: links to the pages of a list, and a timeline.

use askama::Template;

use super::{html_safe, status::Tone, time::When};
use crate::console::{
    browser::{Visit, fields::Fields},
    client::call::encode,
};

/// Links to the first and the next page of a list. Cursors lead forward only; the browser's back button leads back.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"{% if first.is_some() || next.is_some() %}<nav class="paging" aria-label="Pages">{% if let Some(first) = first %}<a class="button" href="{{ first }}">First page</a>{% endif %}{% if let Some(next) = next %}<a class="button" rel="next" href="{{ next }}">Next page</a>{% endif %}</nav>{% endif %}"#,
    ext = "html"
)]
pub struct Paging {
    first: Option<String>,
    next: Option<String>,
}

impl Paging {
    /// Links of the list at the visit's path. `filters` are the parameters that every page of the list has.
    pub fn new(visit: &Visit, query: &Fields, filters: &[&str], next_cursor: Option<&str>) -> Self {
        let link = |cursor: Option<&str>| {
            let kept = filters.iter().map(|name| (*name, query.get(name)));
            let all = kept.chain(cursor.map(|cursor| ("cursor", cursor))).filter(|(_, value)| !value.is_empty());
            let all: Vec<String> = all.map(|(name, value)| format!("{name}={}", encode(value))).collect();
            let separator = if all.is_empty() { "" } else { "?" };
            format!("{}{separator}{}", visit.page_path(), all.join("&"))
        };
        let is_first = query.get("cursor").is_empty();
        Self { first: (!is_first).then(|| link(None)), next: next_cursor.map(|cursor| link(Some(cursor))) }
    }
}

/// Entries of a timeline, the newest first.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<ol class="timeline">{% for entry in entries %}<li class="{{ entry.tone }}"><div>{{ entry.title }}{% if let Some(text) = entry.text %}<p class="muted">{{ text }}</p>{% endif %}</div>{{ entry.when }}</li>{% endfor %}</ol>"#,
    ext = "html"
)]
pub struct Timeline {
    /// Entries.
    pub entries: Vec<TimelineEntry>,
}

/// Entry of a timeline.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    /// Meaning.
    pub tone: Tone,
    /// What happened.
    pub title: String,
    /// More about it.
    pub text: Option<String>,
    /// When.
    pub when: When,
}

html_safe!(Paging, Timeline);
