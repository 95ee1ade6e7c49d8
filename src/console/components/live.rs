//! Parts of a page that follow the events of a project. `static/js/live.js` opens one stream for the page, and reads a part
//! again when an event concerns it. Without scripts, a part stays as it was when the page was loaded.

use askama::Template;

use super::html_safe;
use crate::base::id::ProjectId;

/// Attributes of an element that follows events. The element needs an `id`: `<section id="latest" {{ live }}>`.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"data-live="{{ stream }}" data-live-types="{{ types }}" data-live-subjects="{{ subjects }}"{% if let Some(after) = after %} data-live-after="{{ after }}"{% endif %}"#,
    ext = "html"
)]
pub struct Live {
    stream: String,
    types: String,
    subjects: String,
    after: Option<String>,
}

impl Live {
    /// Follows all events of a project.
    pub fn new(project: ProjectId) -> Self {
        let stream = format!("/console/projects/{project}/events/stream");
        Self { stream, types: String::new(), subjects: String::new(), after: None }
    }

    /// Follows only events of these types. `resource.*` are all whose name begins with `resource.`.
    #[must_use]
    pub fn types<T: AsRef<str>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = join(types);
        self
    }

    /// Follows only events of the objects with these IDs.
    #[must_use]
    pub fn subjects<T: AsRef<str>>(mut self, ids: impl IntoIterator<Item = T>) -> Self {
        self.subjects = join(ids);
        self
    }

    /// The element shows the state after the event with this ID, so the stream begins there and misses none.
    #[must_use]
    pub fn after(mut self, event: Option<&str>) -> Self {
        self.after = event.map(str::to_owned);
        self
    }
}

fn join<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| text.as_ref().to_owned()).collect::<Vec<_>>().join(",")
}

/// State of the page's stream, and a button that pauses it. A page has at most one.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<div class="live js"><span class="live-state" data-live-state role="status"></span><button type="button" class="button" data-live-pause aria-pressed="false">Pause</button></div>"#,
    ext = "html"
)]
pub struct LiveState;

html_safe!(Live, LiveState);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_escaped() {
        let live = Live::new(ProjectId::from_u128(1)).types(["key.*", "\"><script>"]).subjects(["key_1"]);
        let text = live.after(Some("evt_\"")).to_string();
        assert!(!text.contains('<') && !text.contains("_\"\""), "{text}");
        assert!(
            text.starts_with("data-live=\"/console/projects/proj_1/events/stream\" data-live-types=\"key.*,"),
            "{text}"
        );
    }
}
