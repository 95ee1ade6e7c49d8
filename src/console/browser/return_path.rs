//! Where a person continues after signing in. The path comes from a URL that anybody can write, so it must not lead to
//! another site.

/// First page of the console.
pub const HOME: &str = "/console";
const MAX_LENGTH: usize = 2000;

/// Returns the path if it is a page of the console, or else the first page.
pub fn checked(path: &str) -> &str {
    let rest = path.strip_prefix(HOME);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with('?'));
    // Browsers read a backslash as a slash, and drop tabs and line breaks.
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    // Signing in leads somewhere else, not back to itself.
    let is_loop = ["/console/sign-in", "/console/sign-out"].iter().any(|page| path.starts_with(page));
    if is_below && is_plain && !is_loop && path.len() <= MAX_LENGTH { path } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_are_returned_to() {
        for path in ["/console", "/console?x=1", "/console/projects/proj_1/keys?status=active&q=a%20b"] {
            assert_eq!(checked(path), path);
        }
        for path in [
            "",
            "/",
            "//evil.example",
            "//evil.example/console",
            "/\\evil.example",
            "https://evil.example/console",
            "javascript:alert(1)",
            "/consoles",
            "/console\\@evil.example",
            "/console/\n//evil.example",
            "/console/\t",
            "/v1/keys",
            "console",
            "/console/sign-in?return=/console",
            "/console/sign-out",
            "/console@evil.example",
            "/console.evil.example",
            "/console/é",
        ] {
            assert_eq!(checked(path), HOME, "{path:?}");
        }
        assert_eq!(checked(&format!("/console/{}", "a".repeat(2000))), HOME);
    }
}
