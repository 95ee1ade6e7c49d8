//! The environment: `.env`, variables that nobody knows, and settings that make no sense.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process,
};

use anyhow::{Context, bail};
use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use crate::{
    base::text::nearest,
    config::{CLIENT_VARIABLES, Settings},
};

/// Reads `.env` in the working directory, if there is one. What the environment holds already wins.
pub fn load_dotenv() -> anyhow::Result<()> {
    if !Path::new(".env").exists() {
        return Ok(());
    }
    dotenvy::from_path(".env").map_err(|error| anyhow::anyhow!(".env cannot be read: {error}; mend or remove it"))
}

/// Starts this process anew without `PGOPTIONS` if the database is our own: the variable is about some
/// other server, and the client library offers no way not to obey it.
pub fn shed_pgoptions(settings: &Settings) -> anyhow::Result<()> {
    if settings.database_url.is_some() || env::var_os("PGOPTIONS").is_none() {
        return Ok(());
    }
    let program = env::current_exe().context("PGOPTIONS is set, and cannot be set aside; unset it")?;
    let error = process::Command::new(program).args(env::args_os().skip(1)).env_remove("PGOPTIONS").exec();
    Err(error).context("PGOPTIONS is set, and cannot be set aside; unset it")
}

/// Every variable that is a setting.
pub fn known_variables() -> Vec<String> {
    let cli = Cli::command();
    let serve = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut known: Vec<String> = cli
        .get_arguments()
        .chain(serve)
        .filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

/// Warns about variables that look like ours and are not: a mistyped one has no effect otherwise.
pub fn warn_of_unknown() {
    let known = known_variables();
    let ours =
        env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| name.starts_with("CLOUDAPI_"));
    for name in ours.filter(|name| !known.contains(name) && !CLIENT_VARIABLES.contains(&name.as_str())) {
        match nearest(&name, known.iter().map(String::as_str)) {
            Some(near) => tracing::warn!("{name} is set, but is not a setting; did you mean {near}?"),
            None => tracing::warn!("{name} is set, but is not a setting; see .env.example for those there are"),
        }
    }
}

/// Turns a refusal of the command line into one line that names the setting; prints help when that
/// was asked for.
pub fn explain(error: clap::Error) -> anyhow::Result<Cli> {
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
            bail!("{} = '{value}' makes no sense: {reason}", setting_name(flag))
        }
        _ => {
            let code = error.exit_code();
            let _ = write!(io::stderr(), "{}", if code == 0 { String::new() } else { error.render().to_string() });
            if code == 0 {
                let _ = write!(io::stdout(), "{}", error.render());
            }
            process::exit(code)
        }
    }
}

/// A flag with the variable that sets it too.
fn setting_name(flag: &str) -> String {
    let long = flag.trim_start_matches('-');
    let cli = Cli::command();
    let variable = cli
        .get_arguments()
        .chain(cli.get_subcommands().flat_map(clap::Command::get_arguments))
        .find(|argument| argument.get_long() == Some(long))
        .and_then(|argument| argument.get_env()?.to_str());
    match variable {
        Some(variable) => format!("{variable} ({flag})"),
        None => flag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_lists_every_setting_and_no_other() {
        let example = include_str!("../../.env.example");
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
    fn every_setting_is_a_flag_named_like_its_variable() {
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
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
