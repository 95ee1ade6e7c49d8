//! Pages for people. A credential may be typed into them, so they run nothing and reach nothing but
//! what this server serves, and stand in nobody's frame.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use schemars::json_schema;

use super::{
    asset::{File, FileRequest, Packed},
    describe::{Answer, AnswerShape},
};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// 200 with a page.
#[derive(Debug)]
pub struct Html {
    /// The page.
    pub page: Packed,
    /// The accepted encodings.
    pub request: FileRequest,
}

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        let mut response = self.page.response("text/html; charset=utf-8", self.request);
        response.headers_mut().extend(page_headers());
        response
    }
}

impl Answer for Html {
    const SHAPE: AnswerShape = AnswerShape {
        status: 200,
        description: "The page.",
        media_types: &["text/html"],
        schema: |_| json_schema!({ "type": "string" }),
        location: false,
        others: &[],
        etag: true,
        dry_run: None,
        once: false,
        private: false,
        read: false,
        as_of: false,
    };
}

/// 200 with a page that was made at build time.
#[derive(Debug)]
pub struct HtmlFile(pub File);

impl IntoResponse for HtmlFile {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl Answer for HtmlFile {
    const SHAPE: AnswerShape = Html::SHAPE;
}

/// What a browser is told of every page and all it is made of.
pub fn page_headers() -> HeaderMap {
    let headers: [(HeaderName, &'static str); 4] = [
        // Checked each time, which costs a 304: after an update no page gets a file of before.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

/// `text` with what HTML would read as its own written out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_escaped_can_end_a_text_or_an_attribute() {
        assert_eq!(escape(r#"<a href="x">'&'</a>"#), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert_eq!(escape("Ünïcode …"), "Ünïcode …");
    }
}
