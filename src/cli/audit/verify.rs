//! `cloudapi audit verify`.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Deserializer, Value, json};

use super::SPKI;
use crate::{
    audit::{
        chain::{
            checkpoint::{SignedStatement, Statement},
            line::SignedText,
        },
        verification::{
            Verifier,
            report::{KeySource, PublicKey, VerifyError, VerifyReport},
        },
    },
    base::hex,
    cli::support::{command_error::CommandError, output::print},
};

/// Upper bound for one line, far above the longest entry, so that a file without newlines is not read into memory.
const MAX_LINE_LENGTH: u64 = 16 * 1024 * 1024;
/// Upper bound for a file with checkpoints or a key.
const MAX_FILE_LENGTH: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Verify {
    /// The export in NDJSON format, or - for standard input.
    file: PathBuf,
    /// File with checkpoints that were stored elsewhere. Detects a trail that was truncated or rebuilt since.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The public key, as 'cloudapi audit key' prints it: hexadecimal, base64, PEM, or a file with one of these.
    /// [default: the key of the checkpoint, else the key that the export names]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Verifies the file, and prints the result.
    pub fn run(self) -> anyhow::Result<()> {
        let verdict = self.verdict().map_err(CommandError::cannot_run)?;
        let text = match (&verdict, self.json) {
            (Ok(intact), false) => format_intact(intact),
            (Ok(intact), true) => json!({ "intact": true, "trail": intact }).to_string(),
            (Err(broken), false) => format_broken(broken),
            (Err(broken), true) => json!({ "intact": false, "broken": broken }).to_string(),
        };
        match print(&text) {
            // The exit status also reports the result.
            Err(error) if matches!(error.downcast_ref(), Some(CommandError::OutputClosed)) => {}
            printed => printed.map_err(CommandError::cannot_run)?,
        }
        verdict.map(drop).map_err(|_| CommandError::Reported.into())
    }

    fn verdict(&self) -> anyhow::Result<Result<VerifyReport, VerifyError>> {
        let key = self.key.as_deref().map(read_key).transpose()?;
        let checkpoints = self.checkpoint.as_deref().map(read_checkpoints).transpose()?.unwrap_or_default();
        for checkpoint in &checkpoints {
            let key = key.or(checkpoints.first().map(|first| first.public_key));
            if key.is_some_and(|key| key != checkpoint.public_key) || !checkpoint.has_valid_signature() {
                bail!(
                    "the checkpoint of {} up to entry {} is not signed with the key. It is from another deployment, or it was changed; use the checkpoint and the key of this deployment",
                    checkpoint.made_at,
                    checkpoint.seq
                );
            }
        }
        let path = self.file.display();
        let unreadable = || format!("{path} cannot be read");
        let input: Box<dyn Read> = match self.file.to_str() {
            Some("-") => Box::new(io::stdin()),
            _ => Box::new(File::open(&self.file).with_context(unreadable)?),
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        let (mut verifier, mut line) = (Verifier::new(key, checkpoints), Vec::new());
        loop {
            line.clear();
            let length = input.by_ref().take(MAX_LINE_LENGTH).read_until(b'\n', &mut line).with_context(unreadable)?;
            if length == 0 {
                return Ok(verifier.finish());
            }
            if line.last() != Some(&b'\n') {
                return Ok(Err(verifier.truncated()));
            }
            line.pop();
            if let Err(broken) = verifier.push_line(&line) {
                return Ok(Err(broken));
            }
        }
    }
}

fn read_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Some(key) = parse_key(text) {
        return Ok(key);
    }
    let no_key = || {
        format!("--key = '{text}' is neither a public key nor a file with one; use the output of 'cloudapi audit key'")
    };
    let read = read_file(Path::new(text)).with_context(no_key)?;
    // `cloudapi audit key` prints the key twice, as hexadecimal and as PEM.
    parse_key(&read).or_else(|| read.lines().find_map(parse_key)).with_context(no_key)
}

fn parse_key(text: &str) -> Option<PublicKey> {
    let text = text.trim();
    if let Some(key) = hex::decode(&text.to_ascii_lowercase()) {
        return Some(key);
    }
    let body =
        text.strip_prefix("-----BEGIN PUBLIC KEY-----").and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"));
    let bytes = STANDARD.decode(body.unwrap_or(text).replace(['\n', '\r'], "")).ok()?;
    bytes.strip_prefix(&SPKI).unwrap_or(&bytes).try_into().ok()
}

/// Reads checkpoints in any stored form: the API's list, one or more items of it, or last lines of exports.
fn read_checkpoints(file: &Path) -> anyhow::Result<Vec<SignedStatement>> {
    let path = file.display();
    let text = read_file(file).with_context(|| format!("{path} cannot be read"))?;
    let none = || {
        format!(
            "{path} holds no checkpoint; use a response of GET /v1/audit-logs/checkpoints, or the last line of an export"
        )
    };
    let mut found = Vec::new();
    for value in Deserializer::from_str(&text).into_iter::<Value>() {
        let value = value.with_context(none)?;
        let items = match value.get("data") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![value],
        };
        for item in items {
            let signed = item.get("checkpoint").cloned().unwrap_or(item);
            let text: SignedText = serde_json::from_value(signed).with_context(none)?;
            found.push(text.to_statement(Statement::Checkpoint).with_context(none)?);
        }
    }
    if found.is_empty() { bail!(none()) } else { Ok(found) }
}

fn read_file(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > MAX_FILE_LENGTH {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    fs::read_to_string(file)
}

fn format_intact(intact: &VerifyReport) -> String {
    let VerifyReport { entries, redacted, seq, signed_at, public_key, .. } = intact;
    let trail = intact.project_id.map_or("the deployment".to_owned(), |id| id.to_string());
    let mut text = format!(
        "intact: {entries} entries of {trail}, {redacted} of them redacted, up to entry {seq}\nsigned at {signed_at} with the key {public_key}"
    );
    if intact.removed_up_to > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, "\nentries up to {} were removed by the retention period", intact.removed_up_to);
    }
    let (found, removed) = (intact.checkpoints_found, intact.checkpoints_removed);
    if found + removed > 0 {
        let _ = write!(text, "\n{found} of the checkpoints match the export");
        if removed > 0 {
            let _ = write!(text, "; {removed} cover entries that were removed by the retention period");
        }
    }
    text + match intact.key_from {
        KeySource::Given => "",
        KeySource::Checkpoint => "\nthe key was taken from the checkpoint",
        KeySource::Export => {
            "\nthe key was taken from the export itself: compare it with the output of 'cloudapi audit key' on the server, or pass that output as --key"
        }
    }
}

fn format_broken(broken: &VerifyError) -> String {
    let VerifyError { line, seq, id, reason } = broken;
    let entry = match (seq, id) {
        (Some(seq), Some(id)) => format!("entry {seq} ({id}) "),
        (Some(seq), None) => format!("entry {seq} "),
        _ => String::new(),
    };
    format!("broken: line {line}: {entry}{reason}")
}
