//! Validation of `DATABASE_URL` before connecting: sqlx accepts any scheme, and logs unknown parameters with their
//! values. No error shows a part of the URL that may belong to a password.

use url::Url;

use crate::base::input::text::nearest;

const FORM: &str = "it should look like postgres://user:password@host:5432/database";
/// Characters that must be percent-encoded in a user name or a password.
const ENCODE: &str = "in a user name or a password, write '#' as %23, '/' as %2F, '?' as %3F and '@' as %40";
/// Parameters that sqlx reads.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
const SSL_MODES: &[&str] = &["allow", "disable", "prefer", "require", "verify-ca", "verify-full"];

/// Checks a URL. Returns it unchanged, or the reason why it is invalid.
pub fn check(text: &str) -> Result<String, String> {
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(
            "has a space or a line break at its start or end, or contains a control character; remove it".into()
        );
    }
    let Some((scheme, _)) = text.split_once("://") else { return Err(format!("is not a URL; {FORM}")) };
    if !matches!(scheme, "postgres" | "postgresql") {
        let database = match scheme {
            "mysql" | "mariadb" | "sqlite" | "mongodb" | "sqlserver" | "mssql" | "oracle" | "redis" | "http"
            | "https" => {
                format!("is a {scheme}:// URL")
            }
            _ => "has another scheme".to_owned(),
        };
        return Err(format!("{database}, and cloudapi needs PostgreSQL; {FORM}"));
    }
    let url = Url::parse(text).map_err(|error| format!("is not a valid URL ({error}); {FORM}, and {ENCODE}"))?;
    let path = url.path().trim_start_matches('/');
    if url.fragment().is_some() || path.contains(['/', '@', ':']) {
        return Err(format!("has a '#', '/' or '@' in the wrong place; {FORM}, and {ENCODE}"));
    }
    for (key, value) in url.query_pairs() {
        let own_setting = key.strip_prefix("options[").is_some_and(|rest| rest.ends_with(']'));
        if !own_setting && !PARAMETERS.contains(&&*key) {
            let hint = nearest(&key, PARAMETERS.iter().copied()).map(|near| format!("; did you mean '{near}'?"));
            return Err(format!("has an unknown parameter after '?'{}; {ENCODE}", hint.unwrap_or_default()));
        }
        match &*key {
            "sslmode" | "ssl-mode" if !SSL_MODES.contains(&&*value) => {
                return Err(format!("has an unknown {key}; use one of {}", SSL_MODES.join(", ")));
            }
            "port" if value.parse::<u16>().is_err() => {
                return Err("has an invalid port; use a number up to 65535".into());
            }
            _ => {}
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_urls_are_refused_without_showing_the_password() {
        for text in [
            "postgres://user:secret@host:5432/database",
            "postgresql://host",
            "postgres:///database?host=/run/postgresql&user=x",
            "postgres://user@%2Frun%2Fpostgresql:5432/d?sslmode=disable",
            "postgres://u:p%23%2F%3F%40@h/d?options=-c%20x%3D1&options[search_path]=x",
        ] {
            assert_eq!(check(text).as_deref(), Ok(text));
        }
        for (text, why) in [
            ("", "not a URL"),
            ("nonsense", "not a URL"),
            ("u:secret@host/d", "not a URL"),
            ("host=h password=secret", "not a URL"),
            ("mysql://u:secret@h/d", "is a mysql:// URL"),
            ("secret://h", "another scheme"),
            ("postgres://u:secret@h:port/d", "not a valid URL"),
            ("postgres://u:sec#ret@h/d", "%23"),
            ("postgres://u:1#secret@h/d", "%23"),
            ("postgres://u:1/secret@h/d", "%2F"),
            ("postgres://u:1?secret@h/d", "%3F"),
            ("postgres://h/d?sslmod=secret", "did you mean 'sslmode'"),
            ("postgres://h/d?sslmode=secret", "use one of"),
            ("postgres://h/d?port=secret", "an invalid port"),
            ("postgres://u:secret@h/d\n", "line break"),
            (" postgres://u:secret@h/d", "space"),
            ("postgres://u:secret@h/d/e", "'/'"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
