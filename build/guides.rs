//! Renders `docs/*.md`, and the quick start of README, to the pages under `/docs/guides`, and collects their text for the
//! search.
//!
//! The only raw HTML that reaches a page is an anchor, `<a id="…"></a>`. Other HTML is shown as text. Links between
//! guides are rewritten to routes; a link to another file of the repository becomes text with the file's name.

use std::{collections::HashMap, error::Error, fs, iter, path::Path};

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use serde_json::{Value, json};

/// Name of the index of the guides.
const INDEX: &str = "README";

/// Name of the guide that is made of sections of README, and these sections.
const QUICK_START: &str = "quick-start";
const QUICK_START_SECTIONS: [&str; 2] = ["Quick start", "Try it"];

/// One file of `docs`.
pub struct Guide {
    /// File name without `.md`.
    pub name: String,
    /// Text of the first heading.
    pub title: String,
    /// HTML of `main`.
    pub main: String,
    /// Entries of the search index.
    entries: Vec<Value>,
}

impl Guide {
    pub fn is_index(&self) -> bool {
        self.name == INDEX
    }
}

/// Reads and renders all guides, sorted by name.
pub fn guides(folder: &Path, readme: &Path) -> Result<Vec<Guide>, Box<dyn Error>> {
    let mut guides = vec![guide(QUICK_START.to_owned(), &quick_start(&fs::read_to_string(readme)?)?)];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "md") {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(format!(
                    "{}: invalid file name of a guide; use only letters, digits and hyphens",
                    path.display()
                )
                .into());
            }
            guides.push(guide(name, &fs::read_to_string(&path)?));
        }
    }
    guides.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guides)
}

/// The sections of README that are the quick start. The first one becomes the page's title.
fn quick_start(readme: &str) -> Result<String, String> {
    let sections = readme.split("\n## ").skip(1);
    let chosen: Vec<&str> = sections
        .filter(|section| section.lines().next().is_some_and(|title| QUICK_START_SECTIONS.contains(&title)))
        .collect();
    if chosen.len() != QUICK_START_SECTIONS.len() {
        return Err(format!("README.md must have the sections {QUICK_START_SECTIONS:?}"));
    }
    Ok(format!("# {}\n", chosen.join("\n## ")))
}

/// Search index of the guides: one entry for each section, as a JSON array.
pub fn search_index(guides: &[Guide]) -> String {
    Value::from_iter(guides.iter().flat_map(|guide| guide.entries.iter().cloned())).to_string()
}

/// Escapes text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn guide(name: String, markdown: &str) -> Guide {
    let events: Vec<Event<'_>> =
        Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).collect();
    let headings = headings(&events);
    let title = headings.first().map_or_else(|| name.clone(), |heading| heading.text.clone());
    let mut body = String::new();
    html::push_html(&mut body, rewrite(&events, &headings, name != INDEX).into_iter());
    let back = match name == INDEX {
        true => "",
        false => "<p class=\"back\"><a href=\"/docs/guides\">All guides</a></p>\n",
    };
    let main = format!("<main class=\"text guide\">\n{back}{body}</main>");
    let entries = sections(&name, &events, &headings);
    Guide { name, title, main, entries }
}

/// Route of a guide.
fn route(name: &str) -> String {
    match name {
        INDEX => "/docs/guides".to_owned(),
        name => format!("/docs/guides/{name}"),
    }
}

struct Heading {
    level: HeadingLevel,
    text: String,
    id: String,
}

/// Returns the headings, with the ids that GitHub generates for them.
fn headings(events: &[Event<'_>]) -> Vec<Heading> {
    let mut headings = Vec::new();
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut open: Option<Heading> = None;
    for event in events {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                open = Some(Heading { level: *level, text: String::new(), id: String::new() });
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some(mut heading) = open.take() {
                    let slug = slug(&heading.text);
                    let count = counts.entry(slug.clone()).or_default();
                    heading.id = if *count == 0 { slug } else { format!("{slug}-{count}") };
                    *count += 1;
                    headings.push(heading);
                }
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut open {
                    heading.text.push_str(text);
                }
            }
            _ => {}
        }
    }
    headings
}

fn slug(text: &str) -> String {
    let kept = text.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Target of a link.
enum Target {
    Url(String),
    /// File that is not served.
    File(String),
}

fn target(link: &str) -> Target {
    let (path, fragment) = match link.split_once('#') {
        Some((path, fragment)) => (path, format!("#{fragment}")),
        None => (link, String::new()),
    };
    let served = path.is_empty() || path == "/openapi.json" || path == "/docs" || path.starts_with("/docs/");
    if served || ["https://", "http://", "mailto:"].iter().any(|scheme| path.starts_with(scheme)) {
        return Target::Url(link.to_owned());
    }
    if path == "../README.md" {
        // The first section of the quick start is the page itself.
        let fragment = fragment.strip_prefix("#quick-start").unwrap_or(&fragment);
        return Target::Url(format!("{}{fragment}", route(QUICK_START)));
    }
    let prefixes = ["../docs/", "docs/", "./"];
    let local = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
    match local.strip_suffix(".md") {
        Some(name) if !name.contains(['/', ':']) => Target::Url(format!("{}{fragment}", route(name))),
        _ => Target::File(path.trim_start_matches("../").to_owned()),
    }
}

/// Returns the id of an anchor, `<a id="…">`.
fn anchor(html: &str) -> Option<&str> {
    let id = html.trim().strip_prefix("<a id=\"")?;
    let id = id.strip_suffix("\"></a>").or(id.strip_suffix("\">"))?;
    id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_').then_some(id)
}

/// Converts `events` to those of the page, with a table of contents after the first heading on request.
fn rewrite<'a>(events: &[Event<'a>], headings: &[Heading], mut with_contents: bool) -> Vec<Event<'a>> {
    let mut shown = Vec::with_capacity(events.len());
    let mut heading_at = 0;
    // For each open link: its target if the file is not served, and its text so far.
    let mut links: Vec<(Option<String>, String)> = Vec::new();
    let markup = |text: String| Event::Html(text.into());
    for event in events {
        if let (Event::Text(text) | Event::Code(text), Some((_, so_far))) = (event, links.last_mut()) {
            so_far.push_str(text);
        }
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let id = headings.get(heading_at).map_or("", |heading| &heading.id);
                shown.push(markup(format!("<{level} id=\"{}\">", escape(id))));
            }
            Event::End(TagEnd::Heading(level)) => {
                let heading = headings.get(heading_at);
                heading_at += 1;
                if let Some(Heading { id, text, .. }) = heading.filter(|_| *level != HeadingLevel::H1) {
                    let (id, text) = (escape(id), escape(text));
                    shown.push(markup(format!(
                        " <a class=\"anchor\" href=\"#{id}\" aria-label=\"Link to {text}\">#</a>"
                    )));
                }
                shown.push(markup(format!("</{level}>\n")));
                if with_contents {
                    with_contents = false;
                    shown.extend(contents(headings).map(markup));
                }
            }
            Event::Start(Tag::Link { dest_url, .. }) => match target(dest_url) {
                Target::Url(url) => {
                    links.push((None, String::new()));
                    shown.push(Event::InlineHtml(format!("<a href=\"{}\">", escape(&url)).into()));
                }
                Target::File(file) => links.push((Some(file), String::new())),
            },
            Event::End(TagEnd::Link) => match links.pop() {
                Some((Some(file), text)) => {
                    if !text.contains(&file) {
                        shown.push(Event::InlineHtml(format!(" (<code>{}</code>)", escape(&file)).into()));
                    }
                }
                _ => shown.push(Event::InlineHtml("</a>".into())),
            },
            // Images are not served; the alternative text remains.
            Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => {}
            // Wide tables scroll. Alignment would be an inline style, which the Content-Security-Policy does not allow.
            Event::Start(Tag::Table(columns)) => {
                shown.push(markup("<div class=\"table\" tabindex=\"0\">".to_owned()));
                shown.push(Event::Start(Tag::Table(vec![Alignment::None; columns.len()])));
            }
            Event::End(TagEnd::Table) => {
                shown.push(event.clone());
                shown.push(markup("</div>\n".to_owned()));
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.split([' ', ',']).next().unwrap_or_default(),
                    CodeBlockKind::Indented => "",
                };
                let class = match language {
                    "" => String::new(),
                    language => format!(" class=\"language-{}\"", escape(language)),
                };
                shown.push(markup(format!("<pre tabindex=\"0\"><code{class}>")));
            }
            Event::End(TagEnd::CodeBlock) => shown.push(markup("</code></pre>\n".to_owned())),
            Event::Html(html) | Event::InlineHtml(html) => match anchor(html) {
                Some(id) => shown.push(Event::InlineHtml(format!("<a id=\"{id}\"></a>").into())),
                None if html.trim() == "</a>" || html.trim_start().starts_with("<!--") => {}
                None => shown.push(Event::Text(html.clone())),
            },
            other => shown.push(other.clone()),
        }
    }
    shown
}

/// Table of contents of a page that has several sections.
fn contents(headings: &[Heading]) -> Option<String> {
    let sections = || headings.iter().filter(|heading| heading.level == HeadingLevel::H2);
    if sections().count() < 3 {
        return None;
    }
    let items: String =
        sections().map(|it| format!("<li><a href=\"#{}\">{}</a></li>\n", escape(&it.id), escape(&it.text))).collect();
    Some(format!("<details class=\"contents\"><summary>On this page</summary>\n<ul>\n{items}</ul>\n</details>\n"))
}

/// Search entries: one for each section, with its whole text.
fn sections(name: &str, events: &[Event<'_>], headings: &[Heading]) -> Vec<Value> {
    let mut texts: Vec<String> = Vec::new();
    let mut in_heading = false;
    for event in events {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                in_heading = true;
                texts.push(String::new());
            }
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            _ if in_heading => {}
            _ => {
                let text: &str = match event {
                    Event::Text(text) | Event::Code(text) => text,
                    Event::SoftBreak | Event::HardBreak => " ",
                    Event::End(
                        TagEnd::Paragraph | TagEnd::Item | TagEnd::TableCell | TagEnd::TableHead | TagEnd::CodeBlock,
                    ) => " ",
                    _ => "",
                };
                if let Some(last) = texts.last_mut() {
                    last.push_str(text);
                }
            }
        }
    }
    let guide = headings.first().map_or("", |heading| heading.text.as_str());
    iter::zip(headings, texts)
        .enumerate()
        .map(|(at, (heading, text))| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let fragment = if at == 0 { String::new() } else { format!("#{}", heading.id) };
            let section = if at == 0 { "" } else { &heading.text };
            json!({ "url": format!("{}{fragment}", route(name)), "title": guide, "section": section, "text": words.join(" ") })
        })
        .collect()
}
