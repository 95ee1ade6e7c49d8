//! Settings of the HTTP edge: timeouts, limits, TLS and CORS.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::path;

/// Network settings.
#[derive(Clone, Debug, Args)]
pub struct EdgeSettings {
    /// Seconds for a request's head to arrive, and for the TLS handshake.
    #[arg(long, env = "CLOUDAPI_HEAD_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub head_timeout_seconds: Duration,

    /// Seconds for a request's body to arrive.
    #[arg(long, env = "CLOUDAPI_BODY_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub body_timeout_seconds: Duration,

    /// Seconds that a connection may stay idle between requests. Set it longer than the proxy in front keeps idle
    /// connections.
    #[arg(long, env = "CLOUDAPI_IDLE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    pub idle_timeout_seconds: Duration,

    /// Connections open at a time. Further ones wait until one closes.
    #[arg(long, env = "CLOUDAPI_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10000", value_parser = number)]
    pub max_connections: usize,

    /// Requests served at a time. Further ones get 503 'overloaded'.
    #[arg(long, env = "CLOUDAPI_MAX_REQUESTS", value_name = "NUMBER", default_value = "1000", value_parser = number)]
    pub max_requests: usize,

    /// Event streams open at a time. Each is also a connection. Further ones get 503 'overloaded'.
    #[arg(long, env = "CLOUDAPI_MAX_STREAMS", value_name = "NUMBER", default_value = "5000", value_parser = number)]
    pub max_streams: usize,

    /// Seconds after SIGTERM during which /readyz returns 503 and the server still accepts connections, so that a load
    /// balancer notices. Ctrl-C skips the delay.
    #[arg(long, env = "CLOUDAPI_DRAIN_DELAY_SECONDS", value_name = "SECONDS", default_value = "1", value_parser = delay)]
    pub drain_delay_seconds: Duration,

    /// Certificate chain for https, as a PEM file. Needs CLOUDAPI_TLS_KEY.
    #[arg(long, env = "CLOUDAPI_TLS_CERT", value_name = "FILE", value_parser = path)]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, as a PEM file. Needs CLOUDAPI_TLS_CERT.
    #[arg(long, env = "CLOUDAPI_TLS_KEY", value_name = "FILE", value_parser = path)]
    pub tls_key: Option<PathBuf>,

    /// Origins of web pages whose scripts may call the API, comma-separated. [default: none]
    #[arg(long, env = "CLOUDAPI_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<String>,
}

/// Maximum timeout: a larger number is probably meant as milliseconds.
const MAX_SECONDS: u64 = 86_400;
/// Maximum number: valid for a semaphore, and more than any machine needs.
const MAX_NUMBER: usize = 1_000_000;

fn seconds(text: &str) -> Result<Duration, String> {
    bounded_seconds(text, 1)
}

fn delay(text: &str) -> Result<Duration, String> {
    bounded_seconds(text, 0)
}

fn bounded_seconds(text: &str, least: u64) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (least..=MAX_SECONDS).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("must be whole seconds, from {least} to {MAX_SECONDS}")),
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX_NUMBER).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number, from 1 to {MAX_NUMBER}")),
    }
}

/// Parses an origin. Origins are compared byte for byte, so they must be written as browsers write them.
fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim();
    if origin == "*" {
        // Many deployments are reachable only from inside a company. `*` would let any web page that an employee opens
        // try passwords on them.
        return Err("allows every web page; list the origins of yours, such as https://app.example.com".into());
    }
    let (host, own_port) = match origin.split_once("://") {
        Some(("https", host)) => (host, ":443"),
        Some(("http", host)) => (host, ":80"),
        _ => return Err("must be origins with a scheme, such as https://app.example.com".into()),
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err("must be origins as browsers send them: scheme, lower-case host, port unless it is the default one, and nothing after it, not even a slash".into());
    }
    if host.ends_with(own_port) {
        return Err(format!("must not contain the default port; remove {own_port}"));
    }
    Ok(origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_in_the_form_that_browsers_send() {
        for text in
            ["https://app.example.com", " http://localhost:3000 ", "https://a.example:8443", "http://[::1]:8080"]
        {
            assert_eq!(origin(text).as_deref(), Ok(text.trim()));
        }
        for text in [
            "",
            "*",
            "null",
            "app.example.com",
            "ftp://a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://*.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://user@a.example",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_and_numbers_are_whole_and_bounded() {
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(delay("0"), Ok(Duration::ZERO));
        assert_eq!(number("1"), Ok(1));
        for text in ["", "0", "-1", "1.5", "10s", "99999999999999999999"] {
            assert!(seconds(text).is_err() && number(text).is_err(), "{text:?}");
        }
    }
}
