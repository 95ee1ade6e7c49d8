//! Cookies of the console: read from a request, and written for a response.

use axum::http::{HeaderMap, HeaderValue, header};

use super::site::Site;

/// Name of the cookie with the theme. It is no secret, and the same for all ports.
pub const THEME: &str = "cloudapi-theme";

/// Returns the value of the first cookie with this name.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Cookie with the secret of the browser session. It ends with the browser or with the session, whichever is first.
pub fn session(site: &Site, secret: &str) -> Option<HeaderValue> {
    write(site, &site.cookie, secret, "; HttpOnly; SameSite=Strict")
}

/// Removes the cookie of the browser session.
pub fn end_session(site: &Site) -> Option<HeaderValue> {
    write(site, &site.cookie, "", "; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Cookie with a message for the next page.
pub fn message(site: &Site, text: &str) -> Option<HeaderValue> {
    write(site, &site.flash_cookie, text, "; HttpOnly; SameSite=Strict; Max-Age=60")
}

/// Removes the message.
pub fn end_message(site: &Site) -> Option<HeaderValue> {
    write(site, &site.flash_cookie, "", "; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Cookie with the theme, for a year.
pub fn theme(site: &Site, theme: &str) -> Option<HeaderValue> {
    write(site, THEME, theme, "; SameSite=Lax; Max-Age=31536000")
}

fn write(site: &Site, name: &str, value: &str, attributes: &str) -> Option<HeaderValue> {
    let secure = if site.is_secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{name}={value}; Path=/{attributes}{secure}")).ok()
}
