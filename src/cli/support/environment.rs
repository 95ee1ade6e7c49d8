//! Process environment: `.env`, unknown variables and invalid settings.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::process::CommandExt,
    process,
};

use anyhow::{Context, anyhow};
use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::command_error::CommandError;
use crate::{
    base::input::text::nearest,
    cli::Cli,
    server::config::{
        CLIENT_VARIABLES, Settings, dotenv,
        redaction::{may_show, without_passwords},
    },
};

/// Loads `.env` from the working directory, if it exists. Variables that are already set take precedence.
pub fn load_dotenv() -> anyhow::Result<()> {
    let bytes = match fs::read(".env") {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CommandError::cannot_run(anyhow!(".env cannot be read: {error}; fix or remove it"))),
    };
    let variables = dotenv::parse(&bytes).map_err(|error| {
        CommandError::cannot_run(anyhow!(".env, {error}. Values are read literally; see .env.example"))
    })?;
    for (key, value) in variables {
        if env::var_os(&key).is_none() {
            set_variable(&key, &value);
        }
    }
    Ok(())
}

/// Sets an environment variable. The PostgreSQL client library reads some of them from the environment too.
#[expect(unsafe_code, reason = "the environment has no other interface")]
fn set_variable(key: &str, value: &str) {
    // SAFETY: this runs before the first thread is started, so nothing reads the environment concurrently.
    unsafe { env::set_var(key, value) }
}

/// Restarts this process without `PGOPTIONS` if it uses the private database: the variable is meant for another server,
/// and the client library cannot be told to ignore it.
pub fn remove_pgoptions(settings: &Settings) -> anyhow::Result<()> {
    if settings.database_url.is_some() || env::var_os("PGOPTIONS").is_none() {
        return Ok(());
    }
    let program = env::current_exe().context("PGOPTIONS is set and could not be removed; unset it")?;
    let error = process::Command::new(program).args(env::args_os().skip(1)).env_remove("PGOPTIONS").exec();
    Err(error).context("PGOPTIONS is set and could not be removed; unset it")
}

/// The command line. `--help` names the variable of each setting, but never shows its value.
pub fn command() -> clap::Command {
    fn hide(command: clap::Command) -> clap::Command {
        command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(hide)
    }
    hide(Cli::command())
}

/// All settings, as clap arguments.
fn settings() -> Vec<clap::Arg> {
    let cli = Cli::command();
    let serve = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    cli.get_arguments().chain(serve).filter(|argument| argument.get_env().is_some()).cloned().collect()
}

/// Names of the variables of all settings.
pub fn known_variables() -> Vec<String> {
    let settings = settings();
    let mut known: Vec<String> =
        settings.iter().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned)).collect();
    known.sort_unstable();
    known.dedup();
    known
}

/// Warns about variables that start with `CLOUDAPI_` but are not settings, because a mistyped one has no effect.
pub fn warn_about_unknown() {
    let known = known_variables();
    let ours =
        env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| name.starts_with("CLOUDAPI_"));
    for name in ours.filter(|name| !known.contains(name) && !CLIENT_VARIABLES.contains(&name.as_str())) {
        match nearest(&name, known.iter().map(String::as_str)) {
            Some(suggestion) => tracing::warn!("{name} is set, but is not a setting; did you mean {suggestion}?"),
            None => tracing::warn!("{name} is set, but is not a setting; .env.example lists the settings"),
        }
    }
}

/// Turns a clap error into one line that names the setting. Prints the help if it was requested.
pub fn report_parse_error(error: clap::Error) -> anyhow::Result<Cli> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (error.kind(), text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) {
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(argument), Some(value)) => {
            let flag = argument.split(' ').next().unwrap_or(argument);
            let reason = match (std::error::Error::source(&error), error.get(ContextKind::ValidValue)) {
                (Some(source), _) => source.to_string(),
                (None, Some(ContextValue::Strings(valid))) => format!("use one of {}", valid.join(", ")),
                (None, _) => "see --help".into(),
            };
            Err(invalid(flag, value, &reason))
        }
        _ => {
            let code = error.exit_code();
            let rendered = error.render().to_string();
            // The reader of the help may have closed the pipe.
            let _ = if code == 0 {
                write!(io::stdout(), "{rendered}")
            } else {
                write!(io::stderr(), "{}", without_passwords(&rendered))
            };
            process::exit(code)
        }
    }
}

/// Error for an invalid value of a setting or another flag. It ends the process with status 2, like an unknown flag.
pub fn invalid(flag: &str, value: &str, reason: &str) -> anyhow::Error {
    let long = flag.trim_start_matches('-');
    let setting = settings().into_iter().find(|argument| argument.get_long() == Some(long));
    let variable = setting.as_ref().and_then(|argument| argument.get_env()?.to_str());
    let name = variable.map_or_else(|| flag.to_owned(), |variable| format!("{variable} ({flag})"));
    let value_name =
        setting.as_ref().and_then(|argument| argument.get_value_names()?.first()).map(clap::builder::Str::as_str);
    CommandError::cannot_run(if setting.is_none() || may_show(value_name, value) {
        anyhow!("{name} = '{value}' is invalid: {reason}")
    } else if value.is_empty() {
        anyhow!("{name} is invalid: {reason}")
    } else {
        anyhow!("{name} is invalid: {}", reason.replace(value, "the value"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_example_lists_exactly_the_settings() {
        let example = include_str!("../../../.env.example");
        let mut listed: Vec<&str> = example
            .lines()
            .filter_map(|line| line.trim_start_matches('#').trim().split_once('='))
            .map(|(name, _)| name)
            .filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, known_variables());
    }

    #[test]
    fn flags_are_named_after_their_variables() {
        let cli = Cli::command();
        for argument in cli.get_arguments() {
            let (Some(variable), Some(long)) = (argument.get_env(), argument.get_long()) else { continue };
            let variable = variable.to_str().unwrap();
            let expected = match variable {
                "RUST_LOG" => "log".to_owned(),
                _ => variable.trim_start_matches("CLOUDAPI_").to_lowercase().replace('_', "-"),
            };
            assert_eq!(long, expected);
        }
    }

    #[test]
    fn command_line_passes_clap_debug_assertions() {
        Cli::command().debug_assert();
    }
}
