//! Searches each test for leaked secrets. Secrets that a test sends and receives are recorded. When its server is
//! dropped, the server's whole database and its log are searched for them, and for any text that has the form of a
//! secret. So the whole suite is a search for leaks. A server that tests share is searched by the last of them.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use aho_corasick::AhoCorasick;
use cloudapi::base::identity::secret::{Secret, SecretKind};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tracing_subscriber::EnvFilter;

/// How many characters of a secret may be shown. The rest must not be.
const VISIBLE_PREFIX: usize = 14;
/// Shorter passwords can appear in a database by chance.
const PASSWORD_MIN: usize = 12;
const SECRET_CHARS: usize = 49;

/// Everything that the server logs itself. Logs of libraries would slow the suite down; `secrets.rs` enables them for a
/// server in its own process.
const LEVELS: &str = "info,cloudapi=trace";

/// The log of every server in this process.
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

/// The recorded secrets of one server.
#[derive(Clone, Debug)]
pub struct LeakDetector {
    secrets: Arc<Mutex<BTreeSet<String>>>,
    database: PgConnectOptions,
    /// The length of the log when the server started, or up to which it was searched.
    since: Arc<AtomicUsize>,
}

impl LeakDetector {
    /// For a server that is about to start on `database`. Enables logging in this process.
    pub fn new(database: PgConnectOptions) -> Self {
        static LOGGING: Once = Once::new();
        LOGGING.call_once(|| {
            let filter = EnvFilter::new(LEVELS);
            tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(|| Log).init();
        });
        Self { secrets: Arc::default(), database, since: Arc::new(Self::log_len().into()) }
    }

    /// The length of the log of every server in this process.
    pub fn log_len() -> usize {
        log().len()
    }

    /// Does not search the log up to this length any more.
    pub fn skip_log(&self, len: usize) {
        self.since.fetch_max(len, Ordering::SeqCst);
    }

    /// Records a secret or a password.
    pub fn record(&self, text: &str) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
    }

    /// Records every secret in a body.
    pub fn record_secrets(&self, body: &Value) {
        each_text(body, &mut |_, text| {
            if Secret::parse(text).is_some() || text.starts_with("whsec_") {
                self.record(text);
            }
        });
    }

    /// Records the passwords in the body of a successful request.
    pub fn record_passwords(&self, body: &Value) {
        each_text(body, &mut |name, text| {
            if name.contains("password") && text.len() >= PASSWORD_MIN {
                self.record(text);
            }
        });
    }

    /// The log since the server started.
    pub fn logged(&self) -> String {
        log().get(self.since.load(Ordering::SeqCst)..).unwrap_or_default().to_owned()
    }

    /// Every secret in `text`.
    pub fn leaks_in(&self, text: &str) -> BTreeSet<String> {
        let secrets: Vec<String> =
            self.secrets.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        // The end of a secret is as bad as all of it.
        let hidden = |secret: &String| match Secret::parse(secret) {
            Some(_) => secret[VISIBLE_PREFIX..].to_owned(),
            None => secret.clone(),
        };
        // All in one pass: a test can have thousands of secrets, and the log has megabytes.
        let all = AhoCorasick::new(secrets.iter().map(hidden)).unwrap();
        let found = all.find_overlapping_iter(text).map(|found| secrets[found.pattern().as_usize()].clone());
        found.chain(secrets_in(text)).collect()
    }

    /// Searches the log and the database.
    pub fn leaks(&self) -> Leaks {
        let database = self.database.clone();
        // On a separate thread: the test's runtime, which also runs the server, may be about to shut down.
        let dumped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(dump(&database))
        });
        let dumped = dumped.join().expect("a readable database");
        Leaks { in_log: self.leaks_in(&self.logged()), in_database: self.leaks_in(&dumped) }
    }
}

/// Leaked secrets, by place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    pub in_log: BTreeSet<String>,
    pub in_database: BTreeSet<String>,
}

/// Checks a log line of a server in its own process. The line must not contain a secret.
#[track_caller]
pub fn assert_no_secrets(line: &str) {
    let found: Vec<String> = secrets_in(line).collect();
    assert!(found.is_empty(), "a server logged a secret: {found:?} in {line}");
}

fn each_text(body: &Value, visit: &mut impl FnMut(&str, &str)) {
    fn within(name: &str, value: &Value, visit: &mut impl FnMut(&str, &str)) {
        match value {
            Value::String(text) => visit(name, text),
            Value::Array(items) => items.iter().for_each(|item| within(name, item, visit)),
            Value::Object(members) => members.iter().for_each(|(name, value)| within(name, value, visit)),
            _ => {}
        }
    }
    within("", body, visit);
}

/// Every part of `text` with the form and checksum of a secret.
fn secrets_in(text: &str) -> impl Iterator<Item = String> {
    static PREFIXES: LazyLock<AhoCorasick> =
        LazyLock::new(|| AhoCorasick::new(SecretKind::ALL.map(SecretKind::prefix)).unwrap());
    let found = PREFIXES.find_iter(text).filter_map(|prefix| text.get(prefix.start()..prefix.end() + SECRET_CHARS));
    found.filter(|text| Secret::parse(text).is_some()).map(str::to_owned)
}

/// The content of all tables of the database, as text.
pub async fn dump(database: &PgConnectOptions) -> String {
    // Bytes are included as text, because stored responses are bytes.
    let options = database.clone().options([("bytea_output", "escape"), ("lock_timeout", "10s")]);
    let mut db = PgConnection::connect_with(&options).await.unwrap();
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT oid::regclass::text, pg_relation_size(oid) > 0 FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert!(tables.len() > 8, "{tables:?}");
    // Without those that have never had a row.
    let tables: Vec<String> =
        tables.into_iter().filter_map(|(table, has_had_rows)| has_had_rows.then_some(table)).collect();
    let rows: Vec<String> = tables.iter().map(|table| format!("SELECT t::text FROM {table} t")).collect();
    let rows: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(rows.join(" UNION ALL "))).fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    rows.join("\n")
}
