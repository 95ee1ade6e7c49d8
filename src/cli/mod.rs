//! The operator's commands.

mod admin;
mod audit;
mod database;
pub mod demo;
mod ended;
mod environment;
mod output;
pub mod quick_start;
mod serve;
mod server_key;
mod usage;
mod welcome;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use ended::Ended;

use crate::{
    base::clock::Clock,
    config::{LogFormat, ServeSettings, Settings},
    resources, routes,
    webhooks::pace::Pace,
};

/// What a server logs by default: not each notice of a database that is up to date.
const SERVER_LOG: &str = "info,sqlx::postgres::notice=warn";
/// What a command that ends logs by default: its result is on standard output.
const COMMAND_LOG: &str = "warn";

/// How long the end of a process waits for work that nobody waits for.
const LEFT_TIME: Duration = Duration::from_millis(500);

/// A self-hosted REST API for a company's projects, credentials, users and usage.
#[derive(Debug, Parser)]
#[command(name = "cloudapi", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeSettings,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API. Also what happens without a command.
    Serve(Box<ServeSettings>),
    /// Bring the database's tables up to date, and stop.
    Migrate,
    /// Print the API's description (OpenAPI 3.1).
    Openapi,
    /// Manage the deployment, beside a running server or without one.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Check, print and redact the audit trail.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Look at usage, and mend it after a server was lost.
    #[command(subcommand)]
    Usage(usage::Usage),
}

/// What a server goes by that no setting says.
#[derive(Clone, Debug)]
pub struct Times {
    /// What time it is.
    pub clock: Clock,
    /// How soon webhooks are sent, and sent again.
    pub pace: Pace,
    /// How fast operations on resources go.
    pub cloud: resources::pace::Pace,
}

impl Times {
    /// Those of every server that is no test's.
    pub fn usual() -> Self {
        Self { clock: Clock::system(), pace: Pace::default(), cloud: resources::pace::Pace::default() }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match run(env::args_os(), Times::usual()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let ended = error.downcast_ref();
            if matches!(ended, Some(Ended::Unread)) {
                return ExitCode::SUCCESS;
            }
            if !matches!(ended, Some(Ended::Said)) {
                let _ = writeln!(io::stderr(), "cloudapi: {error:#}");
            }
            if matches!(ended, Some(Ended::Unable(_))) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Runs the command that `arguments` spell, the program's name first. A server goes by `times`, which is how a test
/// has a whole one whose clock it can set, and which does not take hours to send something again.
pub fn run(arguments: impl IntoIterator<Item = OsString>, times: Times) -> anyhow::Result<()> {
    environment::load_dotenv()?;
    let parsed = environment::command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => environment::explain(error)?,
    };
    environment::shed_pgoptions(&cli.settings)?;
    let serves = matches!(cli.command, None | Some(Command::Serve(_)));
    start_logging(&cli.settings, if serves { SERVER_LOG } else { COMMAND_LOG })?;
    environment::warn_of_unknown();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let settings = cli.settings;
    let outcome = match cli.command {
        None => runtime.block_on(serve::run(settings, cli.serve, times)),
        Some(Command::Serve(serve)) => runtime.block_on(serve::run(settings, *serve, times)),
        Some(Command::Migrate) => runtime
            .block_on(async { database::Database::open(&settings, database::ADMIN_CONNECTIONS).await?.close().await }),
        Some(Command::Openapi) => print_openapi(),
        Some(Command::Audit(command)) => runtime.block_on(audit::run(settings, command)),
        Some(Command::Usage(command)) => runtime.block_on(usage::run(settings, command)),
        Some(Command::Admin(command)) => runtime.block_on(admin::run(settings, command)),
    };
    // A look-up of a name that hangs cannot be broken off; nobody waits for it any more.
    runtime.shutdown_timeout(LEFT_TIME);
    outcome
}

fn print_openapi() -> anyhow::Result<()> {
    output::print(&serde_json::to_string_pretty(routes::description())?)
}

/// Logs go to standard error, so that standard output holds only what was asked for.
fn start_logging(settings: &Settings, default: &str) -> anyhow::Result<()> {
    let log = settings.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(log).map_err(|error| environment::invalid("--log", log, &error.to_string()))?;
    let format =
        settings.log_format.unwrap_or(if io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json });
    // What the log's own failure would be told to is standard error too, and telling it there would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Pretty => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    // A panic is a line of the log like any other, not a text of its own in between.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(panic = %panic, "panicked; this is a bug, please report it"),
    ));
    Ok(())
}
