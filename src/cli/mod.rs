//! The `cloudapi` command line.

mod admin;
mod audit;
mod database;
pub mod quick_start;
mod serve;
mod server_key;
pub mod support;
mod usage;

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

use support::{
    command_error::CommandError,
    memory::{self, ReleaseMemory},
};

use crate::{
    api::webhooks::delivery::backoff::DeliveryPolicy,
    base::runtime::clock::Clock,
    resources,
    server::{
        config::{LogFormat, ServeSettings, Settings},
        routes,
    },
};

/// Default log filter of a server. It excludes PostgreSQL notices, which an up-to-date database sends at every start.
const SERVER_LOG: &str = "info,sqlx::postgres::notice=warn";
/// Default log filter of all other commands, whose result is on standard output.
const COMMAND_LOG: &str = "warn";

/// Time limit at exit for blocking work that nothing awaits.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

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
    /// Serve the API. The default if no command is given.
    Serve(Box<ServeSettings>),
    /// Bring the database schema up to date.
    Migrate,
    /// Print the OpenAPI 3.1 document.
    Openapi,
    /// Manage the deployment, with or without a running server.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Verify, export and redact the audit trail.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Inspect and repair usage.
    #[command(subcommand)]
    Usage(usage::Usage),
}

/// Clock and timings of a server that are not settings.
#[derive(Clone, Debug)]
pub struct ServerTiming {
    /// Clock.
    pub clock: Clock,
    /// Timing of webhook deliveries and their retries.
    pub pace: DeliveryPolicy,
    /// Timing of operations on resources.
    pub cloud: resources::engine::timing::EngineTiming,
}

impl ServerTiming {
    /// Timings of a production server.
    pub fn production() -> Self {
        Self {
            clock: Clock::system(),
            pace: DeliveryPolicy::default(),
            cloud: resources::engine::timing::EngineTiming::default(),
        }
    }
}

/// Runs the command in the process arguments. `release` is a function of the process's allocator.
pub fn main(release: ReleaseMemory) -> ExitCode {
    match run(env::args_os(), ServerTiming::production(), release) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let command_error = error.downcast_ref();
            if matches!(command_error, Some(CommandError::OutputClosed)) {
                return ExitCode::SUCCESS;
            }
            if !matches!(command_error, Some(CommandError::Reported)) {
                let _ = writeln!(io::stderr(), "cloudapi: {error:#}");
            }
            if matches!(command_error, Some(CommandError::CannotRun(_))) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs the command in `arguments`, which begin with the program's name. `timing` lets tests run a complete server
/// whose clock they control, and whose retries take less than hours.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    timing: ServerTiming,
    release: ReleaseMemory,
) -> anyhow::Result<()> {
    support::environment::load_dotenv()?;
    let parsed = support::environment::command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => support::environment::report_parse_error(error)?,
    };
    support::environment::remove_pgoptions(&cli.settings)?;
    let serves = matches!(cli.command, None | Some(Command::Serve(_)));
    start_logging(&cli.settings, if serves { SERVER_LOG } else { COMMAND_LOG })?;
    support::environment::warn_about_unknown();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(move || memory::release_when_due(release))
        .build()
        .context("the async runtime could not be started")?;
    let settings = cli.settings;
    let outcome = match cli.command {
        None => runtime.block_on(serve::run(settings, cli.serve, timing)),
        Some(Command::Serve(serve)) => runtime.block_on(serve::run(settings, *serve, timing)),
        Some(Command::Migrate) => runtime
            .block_on(async { database::Database::open(&settings, database::ADMIN_CONNECTIONS).await?.close().await }),
        Some(Command::Openapi) => print_openapi(),
        Some(Command::Audit(command)) => runtime.block_on(audit::run(settings, command)),
        Some(Command::Usage(command)) => runtime.block_on(usage::run(settings, command)),
        Some(Command::Admin(command)) => runtime.block_on(admin::run(settings, command)),
    };
    // A blocked DNS lookup cannot be canceled, so do not wait for it.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

fn print_openapi() -> anyhow::Result<()> {
    support::output::print(&serde_json::to_string_pretty(&routes::description())?)
}

/// Sends logs to standard error, so that standard output contains only the result.
fn start_logging(settings: &Settings, default: &str) -> anyhow::Result<()> {
    let log = settings.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(log).map_err(|error| support::environment::invalid("--log", log, &error.to_string()))?;
    let format =
        settings.log_format.unwrap_or(if io::stderr().is_terminal() { LogFormat::Pretty } else { LogFormat::Json });
    // Errors of the log itself would also go to standard error, and writing them there would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Pretty => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    // Log a panic as a regular line, not as separate text between the lines.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(panic = %panic, "panicked; this is a bug, please report it"),
    ));
    Ok(())
}
