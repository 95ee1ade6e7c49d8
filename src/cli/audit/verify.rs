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
        checkpoint::{Signed, Statement},
        line::SignedText,
        verdict::{Broken, Intact, KeyFrom, PublicKey},
        verify::Verifier,
    },
    base::hex,
    cli::{ended::Ended, output::print},
};

/// No entry of ours is as long as this; a file without lines is not read into memory.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;
/// No file of checkpoints or of a key needs to be as long as this.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Verify {
    /// The export, as NDJSON; - for standard input.
    file: PathBuf,
    /// A file with checkpoints that were kept elsewhere: shows a trail that was cut off or made anew since.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The public key, as 'cloudapi audit key' prints it: hexadecimal, base64, PEM, or a file with one of them.
    /// [default: the one of the checkpoint, else the one that the export names]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Checks the file, and says what it comes to.
    pub fn run(self) -> anyhow::Result<()> {
        let verdict = self.verdict().map_err(Ended::unable)?;
        let text = match (&verdict, self.json) {
            (Ok(intact), false) => told(intact),
            (Ok(intact), true) => json!({ "intact": true, "trail": intact }).to_string(),
            (Err(broken), false) => told_broken(broken),
            (Err(broken), true) => json!({ "intact": false, "broken": broken }).to_string(),
        };
        match print(&text) {
            // The exit status says it too.
            Err(error) if matches!(error.downcast_ref(), Some(Ended::Unread)) => {}
            printed => printed.map_err(Ended::unable)?,
        }
        verdict.map(drop).map_err(|_| Ended::Said.into())
    }

    fn verdict(&self) -> anyhow::Result<Result<Intact, Broken>> {
        let key = self.key.as_deref().map(read_key).transpose()?;
        let held = self.checkpoint.as_deref().map(read_checkpoints).transpose()?.unwrap_or_default();
        for checkpoint in &held {
            let key = key.or(held.first().map(|first| first.public_key));
            if key.is_some_and(|key| key != checkpoint.public_key) || !checkpoint.is_genuine() {
                bail!(
                    "the checkpoint of {} up to entry {} is not signed with the key; is it from another deployment, or was it changed?",
                    checkpoint.made_at,
                    checkpoint.seq
                );
            }
        }
        let shown = self.file.display();
        let unreadable = || format!("{shown} cannot be read");
        let input: Box<dyn Read> = match self.file.to_str() {
            Some("-") => Box::new(io::stdin()),
            _ => Box::new(File::open(&self.file).with_context(unreadable)?),
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        let (mut verifier, mut line) = (Verifier::new(key, held), Vec::new());
        loop {
            line.clear();
            let length = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).with_context(unreadable)?;
            if length == 0 {
                return Ok(verifier.finish());
            }
            if line.last() != Some(&b'\n') {
                return Ok(Err(verifier.cut_off()));
            }
            line.pop();
            if let Err(broken) = verifier.take(&line) {
                return Ok(Err(broken));
            }
        }
    }
}

fn read_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Some(key) = parse_key(text) {
        return Ok(key);
    }
    let no_key = || format!("--key = '{text}' is no key, and no file with one; 'cloudapi audit key' prints it");
    let read = read_file(Path::new(text)).with_context(no_key)?;
    // The command's own output has it twice.
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

/// Checkpoints however they were kept: the API's list, one or many of its items, or lines of exports.
fn read_checkpoints(file: &Path) -> anyhow::Result<Vec<Signed>> {
    let shown = file.display();
    let text = read_file(file).with_context(|| format!("{shown} cannot be read"))?;
    let none = || {
        format!(
            "{shown} holds no checkpoint; it should be what GET /v1/audit-logs/checkpoints answers, or an export's last line"
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
            found.push(text.signed(Statement::Checkpoint).with_context(none)?);
        }
    }
    if found.is_empty() { bail!(none()) } else { Ok(found) }
}

fn read_file(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    fs::read_to_string(file)
}

fn told(intact: &Intact) -> String {
    let Intact { entries, redacted, seq, signed_at, public_key, .. } = intact;
    let whose = intact.project_id.map_or("the deployment".to_owned(), |id| id.to_string());
    let mut text = format!(
        "intact: {entries} entries of {whose}, {redacted} of them redacted, up to number {seq}\nsigned at {signed_at} with the key {public_key}"
    );
    if intact.removed_up_to > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, "\nentries up to number {} were removed because of their age", intact.removed_up_to);
    }
    let (found, removed) = (intact.checkpoints_found, intact.checkpoints_removed);
    if found + removed > 0 {
        let _ = write!(text, "\n{found} of the checkpoints were found in it");
        if removed > 0 {
            let _ = write!(text, "; {removed} are about entries that were removed because of their age");
        }
    }
    text + match intact.key_from {
        KeyFrom::Given => "",
        KeyFrom::Checkpoint => "\nthe key is that of the checkpoint",
        KeyFrom::Export => {
            "\nthe key is the one that the export names itself: compare it with what 'cloudapi audit key' printed on the server, or give that as --key"
        }
    }
}

fn told_broken(broken: &Broken) -> String {
    let Broken { line, seq, id, reason } = broken;
    let entry = match (seq, id) {
        (Some(seq), Some(id)) => format!("entry {seq} ({id}) "),
        (Some(seq), None) => format!("entry {seq} "),
        _ => String::new(),
    };
    format!("broken: line {line}: {entry}{reason}")
}
