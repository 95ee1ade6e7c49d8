//! Watches each test for secrets that get to where none belongs. What a test sends and is answered is noted;
//! when its server is dropped, that server's whole database and what was logged meanwhile are searched for it,
//! and for any text that is a secret by its form, whoever issued it. So the suite is one search.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use cloudapi::base::secret::Secret;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tracing_subscriber::EnvFilter;

/// What a person is shown of a secret is its beginning; from here on it is nobody's.
const SHOWN: usize = 14;
/// Shorter passwords stand in a database by chance.
const PASSWORD_MIN: usize = 12;
const SECRET_CHARS: usize = 49;

/// All that the server says itself. What libraries say beyond would slow the suite down; `secrets.rs` has a server
/// in a process of its own log that too.
const LEVELS: &str = "info,cloudapi=trace";

/// What every server in this process has logged, and those in processes of their own.
static LOG: LazyLock<Mutex<String>> = LazyLock::new(Mutex::default);

fn log() -> MutexGuard<'static, String> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The witness of one server.
#[derive(Clone, Debug)]
pub struct Witness {
    noted: Arc<Mutex<BTreeSet<String>>>,
    database: PgConnectOptions,
    /// Where the log was when the server started.
    since: usize,
}

impl Witness {
    /// Of a server that is about to start on `database`. Has this process log, from now on.
    pub fn new(database: PgConnectOptions) -> Self {
        static LOGGING: Once = Once::new();
        LOGGING.call_once(|| {
            let filter = EnvFilter::new(LEVELS);
            tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(|| Log).init();
        });
        Self { noted: Arc::default(), database, since: log().len() }
    }

    /// Notes a secret or a password.
    pub fn note(&self, text: &str) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
    }

    /// Notes every secret in a body.
    pub fn note_secrets(&self, body: &Value) {
        each_text(body, &mut |_, text| {
            if Secret::parse(text).is_some() || text.starts_with("whsec_") {
                self.note(text);
            }
        });
    }

    /// Notes the passwords in a body that was answered with success: they are somebody's.
    pub fn note_passwords(&self, body: &Value) {
        each_text(body, &mut |name, text| {
            if name.contains("password") && text.len() >= PASSWORD_MIN {
                self.note(text);
            }
        });
    }

    /// What was logged since the server started.
    pub fn logged(&self) -> String {
        log().get(self.since..).unwrap_or_default().to_owned()
    }

    /// Every secret that is in `text`.
    pub fn leaks_in(&self, text: &str) -> BTreeSet<String> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |secret: &&String| {
            let end = Secret::parse(secret).and_then(|_| secret.get(SHOWN..));
            text.contains(secret.as_str()) || end.is_some_and(|end| text.contains(end))
        };
        noted.iter().filter(is_there).cloned().chain(secrets_in(text)).collect()
    }

    /// Searches the log and the database.
    pub fn leaks(&self) -> Leaks {
        let database = self.database.clone();
        // Away from the test's runtime, which the server runs on and which may be about to end.
        let dumped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(dump(&database))
        });
        let dumped = dumped.join().expect("the database can be dumped");
        Leaks { in_log: self.leaks_in(&self.logged()), in_database: self.leaks_in(&dumped) }
    }
}

/// Secrets that were found, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    pub in_log: BTreeSet<String>,
    pub in_database: BTreeSet<String>,
}

/// Takes up a line that a server in a process of its own has logged. No secret may be in it.
#[track_caller]
pub fn inspect(line: &str) {
    let found: Vec<String> = secrets_in(line).collect();
    assert!(found.is_empty(), "a server logged a secret: {found:?} in {line}");
}

fn each_text(body: &Value, look: &mut impl FnMut(&str, &str)) {
    fn within(name: &str, value: &Value, look: &mut impl FnMut(&str, &str)) {
        match value {
            Value::String(text) => look(name, text),
            Value::Array(items) => items.iter().for_each(|item| within(name, item, look)),
            Value::Object(members) => members.iter().for_each(|(name, value)| within(name, value, look)),
            _ => {}
        }
    }
    within("", body, look);
}

/// Every text in `text` that is a secret by its form and checksum.
fn secrets_in(text: &str) -> impl Iterator<Item = String> {
    let prefixes = ["sess_", "sk_live_", "cap_", "inv_"];
    let found = prefixes.into_iter().flat_map(move |prefix| {
        text.match_indices(prefix).filter_map(move |(start, _)| text.get(start..start + prefix.len() + SECRET_CHARS))
    });
    found.filter(|text| Secret::parse(text).is_some()).map(str::to_owned)
}

/// Everything that any table of the database holds, as text.
pub async fn dump(database: &PgConnectOptions) -> String {
    // Bytes too, as the text that they may be: kept answers are bytes.
    let options = database.clone().options([("bytea_output", "escape"), ("lock_timeout", "10s")]);
    let mut db = PgConnection::connect_with(&options).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_all(&mut db)
            .await
            .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    let rows: Vec<String> = tables.iter().map(|table| format!("SELECT t::text FROM {table} t")).collect();
    let rows: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(rows.join(" UNION ALL "))).fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    rows.join("\n")
}
