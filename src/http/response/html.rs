//! HTML pages. Users may enter credentials into them, so they load and run only content of this server, connect only to
//! it, and cannot be framed.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::asset::{AcceptedEncoding, CompressedText, File};
use crate::http::describe::{ApiResponse, ResponseShape};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Response: 200 with a page.
#[derive(Debug)]
pub struct Html {
    /// Page.
    pub page: CompressedText,
    /// Accepted encodings.
    pub request: AcceptedEncoding,
}

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        with_page_headers(self.page.response("text/html; charset=utf-8", self.request))
    }
}

impl ApiResponse for Html {
    const SHAPE: ResponseShape =
        ResponseShape { description: "The page.", media_types: &["text/html"], ..<File as ApiResponse>::SHAPE };
}

/// Response: 200 with a page that was rendered at build time.
#[derive(Debug)]
pub struct HtmlFile(pub File);

impl IntoResponse for HtmlFile {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl ApiResponse for HtmlFile {
    const SHAPE: ResponseShape = Html::SHAPE;
}

/// Adds the headers of every page and of the files that it loads.
pub fn with_page_headers(mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 4] = [
        // The browser revalidates each use (304), so that a page never loads files of an older version.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// Escapes `text` for HTML content and quoted attributes.
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
    fn escaped_text_cannot_end_an_element_or_an_attribute() {
        assert_eq!(escape(r#"<a href="x">'&'</a>"#), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert_eq!(escape("Ünïcode …"), "Ünïcode …");
    }
}
