//! Parts of pages. Each is a value that a page puts into its template: `{{ status }}`. Values escape what they show, so
//! templates do not escape them again.

pub mod chart;
pub mod diff;
pub mod icon;
pub mod list;
pub mod live;
pub mod scopes;
pub mod secret;
pub mod status;
pub mod text;
pub mod time;
pub mod timeline;

/// Marks types whose text is HTML, so that templates do not escape it.
macro_rules! html_safe {
    ($($type:ty),+ $(,)?) => {$(
        impl askama::filters::HtmlSafe for $type {}
    )+};
}
pub(crate) use html_safe;
