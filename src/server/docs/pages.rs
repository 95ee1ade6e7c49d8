//! Content of the HTML pages. Every inserted value is escaped with `escape` or is a constant. Each page is rendered and
//! compressed once.

use std::sync::LazyLock;

use dashmap::DashMap;

use crate::{
    base::{
        error::Code,
        id::{Kind, Request, RequestId},
    },
    http::{
        catalog::{self, Entry, entry},
        response::{asset::CompressedText, html::escape, problem::Problem},
    },
};

/// API reference, which Swagger UI renders from `/openapi.json`.
pub fn reference() -> CompressedText {
    static PAGE: LazyLock<CompressedText> = LazyLock::new(|| {
        page(
            "API reference",
            r#"<link rel="stylesheet" href="/docs/assets/swagger-ui.css">"#,
            include_str!("reference.html"),
        )
    });
    PAGE.clone()
}

/// Table of all error codes, by status.
pub fn errors() -> CompressedText {
    static PAGE: LazyLock<CompressedText> = LazyLock::new(error_table);
    PAGE.clone()
}

fn error_table() -> CompressedText {
    let mut codes = Code::ALL.to_vec();
    // Stable sort: within a status, codes keep the order of the enum.
    codes.sort_by_key(|&code| entry(code).status);
    let rows: String = codes
        .into_iter()
        .map(|code| {
            let Entry { status, title, .. } = entry(code);
            let status = status.as_u16();
            let class = status / 100;
            // A long code breaks between its words.
            let shown = code.as_str().replace('_', "_<wbr>");
            format!(
                "<tr><td><span class=\"status s{class}\">{status}</span></td>\
                 <td><a href=\"/docs/errors/{code}\"><code>{shown}</code></a></td><td>{}</td></tr>\n",
                escape(title)
            )
        })
        .collect();
    let main = format!(
        "<main class=\"text\">\n<h1>Errors</h1>\n\
         <p>Every error is a problem document (RFC 9457). Programs branch on its <code>code</code>, which does not \
         change; people read its <code>detail</code>. Its <code>type</code> is the URL of one of the pages below. The guide \
         <a href=\"/docs/guides/errors\">Errors</a> says what to do by status.</p>\n\
         <table class=\"errors\">\n<thead><tr><th>Status</th><th>Code</th><th>Title</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</main>"
    );
    page("Errors", "", &main)
}

/// Page of one error code, with an example as this server writes it.
pub fn error(code: Code, public_url: &str) -> CompressedText {
    // A process has one public URL; tests have a few.
    static PAGES: LazyLock<DashMap<(Code, String), CompressedText>> = LazyLock::new(DashMap::new);
    PAGES.entry((code, public_url.to_owned())).or_insert_with(|| error_page(code, public_url)).clone()
}

fn error_page(code: Code, public_url: &str) -> CompressedText {
    let Entry { status, title, meaning, remedy, .. } = entry(code);
    let request_id: RequestId = Request::EXAMPLE.parse().unwrap_or_default();
    let problem = Problem::new(&catalog::example(code), request_id, public_url);
    let problem = serde_json::to_string_pretty(&problem).unwrap_or_default();
    let class = status.as_u16() / 100;
    let main = format!(
        "<main class=\"text\">\n<p class=\"back\"><a href=\"/docs/errors\">All errors</a></p>\n\
         <h1>{}</h1>\n<p class=\"facts\"><span class=\"status s{class}\">{status}</span> <code>{code}</code></p>\n\
         <h2>Meaning</h2>\n<p>{}</p>\n<h2>What to do</h2>\n<p>{}</p>\n\
         <h2>Example</h2>\n<pre tabindex=\"0\"><code>{}</code></pre>\n</main>",
        escape(title),
        escape(meaning),
        escape(remedy),
        escape(&problem),
    );
    page(title, "", &main)
}

fn page(title: &str, head: &str, main: &str) -> CompressedText {
    let here = |name: &str| if name == title { " aria-current=\"page\"" } else { "" };
    CompressedText::new(format!(
        include_str!("page.html"),
        title = escape(title),
        head = head,
        version = env!("CARGO_PKG_VERSION"),
        reference = here("API reference"),
        guides = "",
        errors = here("Errors"),
        main = main,
    ))
}
