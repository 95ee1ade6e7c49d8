//! The operator's settings: each an environment variable and a flag, every default in one place.

mod database_url;
pub mod dotenv;
mod edge;
mod listen;
pub mod shown;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum, value_parser};

pub use edge::EdgeSettings;

use crate::base::{
    limit::{LimitSettings, RateLimit},
    net::Cidr,
};

/// Variables that start like ours but are the client's, as in README's curl lines.
pub const CLIENT_VARIABLES: &[&str] = &["CLOUDAPI_TOKEN", "CLOUDAPI_SESSION", "CLOUDAPI_URL"];

/// Where things are, for every command.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// The PostgreSQL (14 or newer) to use. When unset, cloudapi runs a private one in its data directory.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL", value_parser = database_url::check)]
    pub database_url: Option<String>,

    /// Where cloudapi keeps its own files. [default: /var/lib/cloudapi as root, else $XDG_DATA_HOME/cloudapi]
    #[arg(long, env = "CLOUDAPI_DATA_DIR", global = true, value_name = "DIR", value_parser = path)]
    pub data_dir: Option<PathBuf>,

    /// The folder of PostgreSQL's server programs, for the private PostgreSQL. [default: the newest installed]
    #[arg(long, env = "CLOUDAPI_PG_BIN", global = true, value_name = "DIR", value_parser = path)]
    pub pg_bin: Option<PathBuf>,

    /// The file of the key that signs checkpoints and seals webhooks' secrets, the same for all servers of a deployment.
    /// [default: secret.key in the data directory, made when it is not there]
    #[arg(long, env = "CLOUDAPI_SECRET_KEY_FILE", global = true, value_name = "FILE", value_parser = path)]
    pub secret_key_file: Option<PathBuf>,

    /// How log lines are written. [default: pretty on a terminal, else json]
    #[arg(long, env = "CLOUDAPI_LOG_FORMAT", global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What is logged: a level, or targets with levels, such as "info,sqlx=warn". [default: info for a server, else warn]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER", value_parser = not_empty)]
    pub log: Option<String>,
}

impl Settings {
    /// Where cloudapi keeps its own files.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }
}

impl ServeSettings {
    /// The limits of rates.
    pub fn limits(&self) -> LimitSettings {
        LimitSettings { credentials: self.rate_limit, failures: self.failure_limit, sign_ins: self.sign_in_limit }
    }
}

/// How the server serves.
#[derive(Clone, Debug, Args)]
pub struct ServeSettings {
    /// The address to serve on; a port alone, such as 8081, is one on 127.0.0.1. Port 0 takes a free one, and the real
    /// address is printed.
    #[arg(long, env = "CLOUDAPI_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub listen: SocketAddr,

    /// The address to serve /metrics on, for Prometheus, or "off". [default: 127.0.0.1:9464, if it is free]
    #[arg(long, env = "CLOUDAPI_METRICS_LISTEN", value_name = "ADDR", value_parser = metrics_listen)]
    pub metrics_listen: Option<MetricsListen>,

    /// Where clients reach this server. [default: http:// (https:// with TLS) and the address it serves on]
    #[arg(long, env = "CLOUDAPI_PUBLIC_URL", value_name = "URL", value_parser = http_url)]
    pub public_url: Option<String>,

    /// Requests that each credential may make, as REQUESTS/SECONDS, if its key has no limit of its own. [default: no limit]
    #[arg(long, env = "CLOUDAPI_RATE_LIMIT", value_name = "LIMIT")]
    pub rate_limit: Option<RateLimit>,

    /// Requests without a valid credential that an address may make before it is told to wait, as REQUESTS/SECONDS.
    #[arg(long, env = "CLOUDAPI_FAILURE_LIMIT", value_name = "LIMIT", default_value_t = LimitSettings::default().failures)]
    pub failure_limit: RateLimit,

    /// Attempts to sign in that an address may make before it is told to wait, as REQUESTS/SECONDS.
    #[arg(long, env = "CLOUDAPI_SIGN_IN_LIMIT", value_name = "LIMIT", default_value_t = LimitSettings::default().sign_ins)]
    pub sign_in_limit: RateLimit,

    /// The proxies whose X-Forwarded-For is believed, as networks with commas between. [default: none]
    #[arg(long, env = "CLOUDAPI_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',')]
    pub trusted_proxies: Vec<Cidr>,

    /// Networks that webhooks may be sent to besides the public Internet, over http too, as networks with commas between.
    /// [default: none]
    #[arg(long, env = "CLOUDAPI_WEBHOOK_ALLOW", value_name = "CIDRS", value_delimiter = ',')]
    pub webhook_allow: Vec<Cidr>,

    /// A TOML file that names the cloud providers which resources can be at (docs/resources.md). [default: one simulated
    /// provider, called sim]
    #[arg(long, env = "CLOUDAPI_PROVIDERS", value_name = "FILE", value_parser = path)]
    pub providers: Option<PathBuf>,

    /// Whether credentials are answered from memory while nothing that they rest on has changed. Off, each
    /// request reads the database. Either way a revoked credential is dead when its DELETE is answered.
    #[arg(long, env = "CLOUDAPI_AUTH_CACHE", value_name = "SWITCH", default_value = "on")]
    pub auth_cache: Switch,

    /// Days for which usage is kept by day; after that by month. From 62 to 3660.
    #[arg(long, env = "CLOUDAPI_USAGE_DAYS", value_name = "DAYS", default_value = "400", value_parser = value_parser!(u32).range(62..=3660))]
    pub usage_days: u32,

    /// Whole UTC months before the present one for which the audit trail is kept; what is older is removed, behind a
    /// signed anchor. [default: all of it is kept]
    #[arg(long, env = "CLOUDAPI_AUDIT_MONTHS", value_name = "MONTHS", value_parser = value_parser!(u32).range(1..=1200))]
    pub audit_months: Option<u32>,

    /// How the server meets the network.
    #[command(flatten)]
    pub edge: EdgeSettings,

    /// Leave an empty private database empty, instead of loading the published reference's examples.
    #[arg(long)]
    pub no_demo: bool,
}

/// Where metrics are served if nothing is said: the port that OpenTelemetry's exporters for Prometheus have.
pub const METRICS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Where metrics are served, as the operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// Here.
    On(SocketAddr),
    /// Nowhere.
    Off,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line, for programs.
    Json,
}

/// The system's place for a service's files as root, else the user's own (XDG Base Directory).
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
    fn a_public_url_is_http_and_loses_its_last_slash() {
        assert_eq!(http_url("https://api.example.com/").as_deref(), Ok("https://api.example.com"));
        for text in ["", "api.example.com", "ftp://x", "https://", "https://x?y", "https://x y", "https://u:p@x"] {
            assert!(http_url(text).is_err(), "{text:?}");
        }
    }
}
