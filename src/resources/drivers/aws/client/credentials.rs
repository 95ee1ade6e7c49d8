//! Credentials from the environment and the shared file, as AWS's own tools find them. They are read for each call and
//! not stored, so rotated credentials take effect with the next call.

use std::{env, fmt, fs, io::Read, path::PathBuf, sync::Arc};

use aws_credential_types::Credentials;

use crate::resources::drivers::driver::{DriverError, DriverErrorKind, Result};

/// Maximum length of the shared file.
const MAX_FILE_LENGTH: u64 = 1024 * 1024;
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// Function that reads an environment variable.
pub type Environment = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Finds credentials.
#[derive(Clone)]
pub struct CredentialChain {
    profile: Option<String>,
    environment: Arc<Environment>,
}

impl fmt::Debug for CredentialChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialChain").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Returns the environment of this process.
pub fn process_environment() -> Arc<Environment> {
    Arc::new(|name| env::var(name).ok())
}

impl CredentialChain {
    /// Creates a chain for `profile`; without one, the environment decides.
    pub fn new(profile: Option<String>, environment: Arc<Environment>) -> Self {
        Self { profile, environment }
    }

    /// Reads the current credentials.
    pub async fn find(&self) -> Result<Credentials> {
        let chain = self.clone();
        let found = tokio::task::spawn_blocking(move || chain.read()).await;
        found.unwrap_or_else(|_| Err(DriverError::retryable("credentials", "the credentials could not be read")))
    }

    /// Treats an empty variable like a missing one.
    fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn read(&self) -> Result<Credentials> {
        // A configured profile is meant for this provider, whereas the environment applies to all providers.
        if self.profile.is_none() {
            match (self.variable(KEY_ID), self.variable(SECRET)) {
                (Some(id), Some(secret)) => {
                    return Ok(Credentials::new(id, secret, self.variable(TOKEN), None, "environment"));
                }
                (Some(_), None) => return Err(denied(format!("{KEY_ID} is set, but {SECRET} is not; set both"))),
                (None, Some(_)) => return Err(denied(format!("{SECRET} is set, but {KEY_ID} is not; set both"))),
                (None, None) => {}
            }
        }
        let profile = self.profile.clone().or_else(|| self.variable("AWS_PROFILE"));
        self.read_file(profile.as_deref().unwrap_or("default"))
    }

    fn read_file(&self, profile: &str) -> Result<Credentials> {
        let path = self.variable(FILE).map(PathBuf::from);
        let path = path.or_else(|| self.variable("HOME").map(|home| PathBuf::from(home).join(".aws/credentials")));
        let mut text = String::new();
        let read = path.as_ref().map(|path| fs::File::open(path)?.take(MAX_FILE_LENGTH).read_to_string(&mut text));
        if let (Some(path), Some(Err(error))) = (&path, &read) {
            tracing::debug!(path = %path.display(), %error, "AWS credentials file could not be read");
        }
        let member = |name| member(&text, profile, name);
        if let (Some(id), Some(secret)) = (member("aws_access_key_id"), member("aws_secret_access_key")) {
            return Ok(Credentials::new(id, secret, member("aws_session_token").map(Into::into), None, "file"));
        }
        let hint = format!(
            "put aws_access_key_id and aws_secret_access_key under [{profile}] in the file that {FILE} names, which is \
             ~/.aws/credentials by default"
        );
        Err(denied(if self.profile.is_some() {
            format!("no AWS credentials for the profile {profile}: {hint}")
        } else {
            format!("no AWS credentials: set {KEY_ID} and {SECRET}, or {hint}")
        }))
    }
}

fn denied(message: String) -> DriverError {
    DriverError::new(DriverErrorKind::Denied, "no_credentials", message)
}

/// Finds a member of a section in the shared file. The last one wins.
fn member<'a>(text: &'a str, section: &str, name: &str) -> Option<&'a str> {
    let mut is_inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            is_inside = title.trim() == section;
        } else if is_inside && let Some((key, value)) = line.split_once('=') {
            // AWS's tools ignore the case of names.
            if key.trim().eq_ignore_ascii_case(name) {
                found = Some(value.trim()).filter(|value| !value.is_empty());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn chain(profile: Option<&str>, variables: &[(&str, &str)]) -> CredentialChain {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let find = move |name: &str| variables.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone());
        CredentialChain::new(profile.map(Into::into), Arc::new(find))
    }

    fn found(chain: &CredentialChain) -> (String, String, Option<String>) {
        let found = chain.read().unwrap();
        let token = found.session_token().map(Into::into);
        (found.access_key_id().into(), found.secret_access_key().into(), token)
    }

    #[test]
    fn environment_takes_precedence_and_the_file_is_read_each_time() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        writeln!(file, "# of two accounts\n[default]\naws_access_key_id = A1\naws_secret_access_key=S1\n").unwrap();
        writeln!(file, "[ work ]\nAWS_ACCESS_KEY_ID=A2\naws_secret_access_key = S2==\naws_session_token=T2").unwrap();
        let owned = |id: &str, secret: &str, token: Option<&str>| (id.into(), secret.into(), token.map(Into::into));

        let both = chain(None, &[(KEY_ID, "A0"), (SECRET, "S0"), (TOKEN, ""), (FILE, &path)]);
        assert_eq!(found(&both), owned("A0", "S0", None));
        assert_eq!(found(&chain(None, &[(FILE, &path), (KEY_ID, "")])), owned("A1", "S1", None));
        assert_eq!(found(&chain(None, &[(FILE, &path), ("AWS_PROFILE", "work")])), owned("A2", "S2==", Some("T2")));
        let named = chain(Some("work"), &[(KEY_ID, "A0"), (SECRET, "S0"), (FILE, &path)]);
        assert_eq!(found(&named), owned("A2", "S2==", Some("T2")));

        writeln!(file, "[work]\naws_access_key_id=A3\naws_secret_access_key=S3\naws_session_token=").unwrap();
        assert_eq!(found(&named), owned("A3", "S3", None));
    }

    #[test]
    fn missing_credentials_are_named_without_secrets() {
        let message = |profile, variables: &[(&str, &str)]| {
            let refused = chain(profile, variables).read().unwrap_err();
            assert_eq!(refused.kind, DriverErrorKind::Denied);
            refused.to_string()
        };
        assert!(message(None, &[]).contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put"));
        assert!(message(None, &[(FILE, "/nowhere")]).contains("under [default]"));
        assert!(message(Some("work"), &[]).contains("for the profile work"));
        let half = message(None, &[(SECRET, "a-secret")]);
        assert!(half.contains("AWS_ACCESS_KEY_ID is not") && !half.contains("a-secret"), "{half}");
        assert!(!format!("{:?}", chain(None, &[(SECRET, "a-secret")])).contains("a-secret"));
    }
}
