//! The operator's settings: each is an environment variable and a flag, and every default is defined here.

mod database_url;
pub mod dotenv;
mod edge;
mod listen;
pub mod redaction;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum, value_parser};

pub use edge::EdgeSettings;

use crate::base::input::{
    limit::{LimitSettings, RateLimit},
    net::Cidr,
};

/// Variables with the `CLOUDAPI_` prefix that clients use, as in the README's curl commands.
pub const CLIENT_VARIABLES: &[&str] = &["CLOUDAPI_TOKEN", "CLOUDAPI_SESSION", "CLOUDAPI_URL"];

/// Settings of every command.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// PostgreSQL (14 or newer) to use. When unset, cloudapi runs a private PostgreSQL in its data directory.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL", value_parser = database_url::check)]
    pub database_url: Option<String>,

    /// Folder for cloudapi's own files. [default: /var/lib/cloudapi as root, else $XDG_DATA_HOME/cloudapi]
    #[arg(long, env = "CLOUDAPI_DATA_DIR", global = true, value_name = "DIR", value_parser = path)]
    pub data_dir: Option<PathBuf>,

    /// Folder of the PostgreSQL server programs, for the private PostgreSQL. [default: the newest version installed]
    #[arg(long, env = "CLOUDAPI_PG_BIN", global = true, value_name = "DIR", value_parser = path)]
    pub pg_bin: Option<PathBuf>,

    /// File with the deployment's key, which signs the audit trail and seals webhook secrets. All servers of a
    /// deployment use the same key. [default: secret.key in the data directory, created if missing]
    #[arg(long, env = "CLOUDAPI_SECRET_KEY_FILE", global = true, value_name = "FILE", value_parser = path)]
    pub secret_key_file: Option<PathBuf>,

    /// Format of log lines. [default: pretty on a terminal, else json]
    #[arg(long, env = "CLOUDAPI_LOG_FORMAT", global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level, or targets with levels, such as "info,sqlx=warn". [default: info for a server, warn for other
    /// commands]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER", value_parser = not_empty)]
    pub log: Option<String>,
}

impl Settings {
    /// Folder for cloudapi's own files.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }
}

impl ServeSettings {
    /// Rate limits.
    pub fn limits(&self) -> LimitSettings {
        LimitSettings { credentials: self.rate_limit, failures: self.failure_limit, sign_ins: self.sign_in_limit }
    }
}

/// Where a server listens, and where clients reach it.
#[derive(Clone, Debug, Args)]
pub struct AddressSettings {
    /// Address to serve on. A port alone, such as 8081, means 127.0.0.1. Port 0 picks a free port; the server prints
    /// the actual address.
    #[arg(long, env = "CLOUDAPI_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub listen: SocketAddr,

    /// URL at which clients reach this server. [default: http:// (with TLS https://) and the listen address]
    #[arg(long, env = "CLOUDAPI_PUBLIC_URL", value_name = "URL", value_parser = http_url)]
    pub public_url: Option<String>,
}

impl AddressSettings {
    /// URL at which clients reach the server that listens on `address`.
    pub fn url(&self, address: SocketAddr, https: bool) -> String {
        let scheme = if https { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    /// URL at which a browser on the same machine reaches it: without a public URL, the loopback address if the server
    /// listens on all addresses.
    pub fn browser_url(&self, address: SocketAddr, https: bool) -> String {
        let loopback: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
        self.url(SocketAddr::new(ip, address.port()), https)
    }
}

/// Settings of a server.
#[derive(Clone, Debug, Args)]
pub struct ServeSettings {
    /// Addresses.
    #[command(flatten)]
    pub address: AddressSettings,

    /// Address to serve /metrics on, for Prometheus, or "off". [default: 127.0.0.1:9464, if it is free]
    #[arg(long, env = "CLOUDAPI_METRICS_LISTEN", value_name = "ADDR", value_parser = metrics_listen)]
    pub metrics_listen: Option<MetricsListen>,

    /// Rate limit per credential, as REQUESTS/SECONDS. A key's own limit takes precedence. [default: no limit]
    #[arg(long, env = "CLOUDAPI_RATE_LIMIT", value_name = "LIMIT")]
    pub rate_limit: Option<RateLimit>,

    /// Requests without a valid credential per client address, as REQUESTS/SECONDS. After it, the response is 429.
    #[arg(long, env = "CLOUDAPI_FAILURE_LIMIT", value_name = "LIMIT", default_value_t = LimitSettings::default().failures)]
    pub failure_limit: RateLimit,

    /// Sign-in attempts per client address, as REQUESTS/SECONDS.
    #[arg(long, env = "CLOUDAPI_SIGN_IN_LIMIT", value_name = "LIMIT", default_value_t = LimitSettings::default().sign_ins)]
    pub sign_in_limit: RateLimit,

    /// Proxies whose X-Forwarded-For is trusted, as comma-separated networks. [default: none]
    #[arg(long, env = "CLOUDAPI_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',')]
    pub trusted_proxies: Vec<Cidr>,

    /// Networks that webhooks may be sent to in addition to the public Internet, over http as well, comma-separated.
    /// [default: none]
    #[arg(long, env = "CLOUDAPI_WEBHOOK_ALLOW", value_name = "CIDRS", value_delimiter = ',')]
    pub webhook_allow: Vec<Cidr>,

    /// TOML file with the cloud providers that resources can use (docs/drivers.md). [default: one simulated provider,
    /// sim]
    #[arg(long, env = "CLOUDAPI_PROVIDERS", value_name = "FILE", value_parser = path)]
    pub providers: Option<PathBuf>,

    /// Check credentials against an in-memory cache. Off: every request reads the database. Either way, a revoked
    /// credential is dead on every server when its DELETE returns.
    #[arg(long, env = "CLOUDAPI_AUTH_CACHE", value_name = "SWITCH", default_value = "on")]
    pub auth_cache: Switch,

    /// Days for which usage is kept by day, 62 to 3660. Older usage is kept by month.
    #[arg(long, env = "CLOUDAPI_USAGE_DAYS", value_name = "DAYS", default_value = "400", value_parser = value_parser!(u32).range(62..=3660))]
    pub usage_days: u32,

    /// Whole UTC months before the current one for which the audit trail is kept. Older entries are removed behind a
    /// signed anchor. [default: everything is kept]
    #[arg(long, env = "CLOUDAPI_AUDIT_MONTHS", value_name = "MONTHS", value_parser = value_parser!(u32).range(1..=1200))]
    pub audit_months: Option<u32>,

    /// Network settings.
    #[command(flatten)]
    pub edge: EdgeSettings,

    /// Do not load the example data into an empty private database.
    #[arg(long)]
    pub no_demo: bool,
}

/// Default address of metrics: the port of OpenTelemetry's exporters for Prometheus.
pub const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// At this address.
    On(SocketAddr),
    /// Nowhere.
    Off,
}

/// Switch of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// The feature is on.
    On,
    /// The feature is off.
    Off,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For programs: one JSON object per line.
    Json,
}

/// Default data directory: the system's folder for services as root, else the user's (XDG Base Directory).
fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/cloudapi".into();
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(env::temp_dir)
        .join("cloudapi")
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty; give it a value or unset it".into()) } else { Ok(text.to_owned()) }
}

fn metrics_listen(text: &str) -> Result<MetricsListen, String> {
    if text == "off" {
        return Ok(MetricsListen::Off);
    }
    listen::address(text).map(MetricsListen::On).ok_or_else(|| {
        format!("must be an address and a port, such as {METRICS_LISTEN}, a port alone, such as 9464, or off")
    })
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let why = "must be an address and a port, such as 0.0.0.0:8080 or [::1]:8080, or a port alone, such as 8081 (on 127.0.0.1)";
    listen::address(text).ok_or_else(|| why.into())
}

fn path(text: &str) -> Result<PathBuf, String> {
    not_empty(text).map(PathBuf::from)
}

fn http_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || !url.chars().all(|c| c.is_ascii_graphic()) || url.contains(['?', '#', '"', '@']) {
        return Err(
            "must be an http or https URL without user, query or fragment, such as https://api.example.com".into()
        );
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_reaches_a_server_on_all_addresses_by_loopback() {
        let settings = |public_url: Option<&str>, listen: &str| AddressSettings {
            listen: listen.parse().unwrap(),
            public_url: public_url.map(str::to_owned),
        };
        let url = |public_url, listen, https| {
            let settings = settings(public_url, listen);
            settings.browser_url(settings.listen, https)
        };
        assert_eq!(url(None, "0.0.0.0:8080", false), "http://127.0.0.1:8080");
        assert_eq!(url(None, "[::]:8443", true), "https://[::1]:8443");
        assert_eq!(url(None, "192.0.2.7:80", false), "http://192.0.2.7:80");
        assert_eq!(url(Some("https://api.example.com"), "0.0.0.0:8080", false), "https://api.example.com");
    }

    #[test]
    fn public_url_is_http_without_trailing_slash() {
        assert_eq!(http_url("https://api.example.com/").as_deref(), Ok("https://api.example.com"));
        for text in ["", "api.example.com", "ftp://x", "https://", "https://x?y", "https://x y", "https://u:p@x"] {
            assert!(http_url(text).is_err(), "{text:?}");
        }
    }
}
