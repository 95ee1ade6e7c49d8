//! Measures a flush in which each of many credentials has new counts, next to a bare statement that writes the same
//! rows to an equal table.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cloudapi::{
    api::usage::{
        counting::{
            flush,
            journal::slot::CounterKey,
            meter::{Meter, MeterOptions},
        },
        ledger::{self, UsageRow},
    },
    base::{
        id::{KeyId, ProjectId, TokenId},
        identity::credential::CredentialId,
        runtime::clock::{Clock, Timestamp},
    },
    db,
};
use sqlx::{AssertSqlSafe, PgPool};
use time::Date;
use uuid::Uuid;

use crate::support::{POOL, Result, median};

const PROJECTS: usize = 100;
const CREDENTIALS_EACH: usize = 100;
const ROUNDS: usize = 15;
const ROUTE: u32 = 0x5eed_0001;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The usual second: every row exists already, and so does the minute of the last use.
    Steady,
    /// The first flush of a minute, which also writes when each credential was last used.
    NewMinute,
    /// The first flush of a journal: every row is new. Another node has written the last uses.
    NewJournal,
}

/// Measures all cases.
pub async fn run(folder: &Path, database: &str) -> Result<()> {
    let clock = Clock::system();
    let db = PgPool::clone(&db::pool(db::options_from_url(database)?, POOL));
    db::prepare(&db).await?;
    let counted = insert_credentials(&db, clock.now()).await?;
    make_bare_table(&db).await?;
    // On a real server, autovacuum has run before this many credentials are in use.
    sqlx::query("VACUUM ANALYZE").execute(&db).await?;
    println!("A flush of {} active credentials, next to the bare statement for the same rows", counted.len());
    let mut bench = Bench { folder, db, clock, counted, meter: None, journals: 0, turns: 0, minutes: 0 };
    bench.case("in a usual second", Case::Steady).await?;
    bench.case("in the first second of a minute, with last uses", Case::NewMinute).await?;
    bench.case("in the first second of a journal, all rows new", Case::NewJournal).await?;
    bench.parts().await
}

struct Bench<'a> {
    folder: &'a Path,
    db: PgPool,
    clock: Clock,
    counted: Vec<CounterKey>,
    meter: Option<Meter>,
    /// How many journals there have been.
    journals: i32,
    /// How often everything was counted in the current journal.
    turns: i64,
    minutes: u32,
}

impl Bench<'_> {
    async fn case(&mut self, name: &str, case: Case) -> Result<()> {
        let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            if case == Case::NewJournal || self.meter.is_none() {
                self.new_journal().await?;
            }
            if case == Case::NewMinute {
                self.minutes += 1;
            }
            self.count();
            // Alternate which one goes first.
            let (flush, bare) = if round % 2 == 0 {
                let flush = self.flush().await?;
                (flush, self.bare().await?)
            } else {
                let bare = self.bare().await?;
                (self.flush().await?, bare)
            };
            // The first round warms up.
            if round > 0 {
                ratios.push(flush.as_secs_f64() / bare.as_secs_f64());
                ours.push(milliseconds(flush));
                theirs.push(milliseconds(bare));
            }
        }
        println!(
            "  {name}: {:.0} ms, bare {:.0} ms, median ratio {:.2} (from {:.2} to {:.2})",
            median(&mut ours),
            median(&mut theirs),
            median(&mut ratios),
            ratios[0],
            ratios[ratios.len() - 1]
        );
        Ok(())
    }

    /// Continues with a new journal, as a restarted server does.
    async fn new_journal(&mut self) -> Result<()> {
        self.journals += 1;
        self.turns = 0;
        let folder = self.folder.join("flush").join(self.journals.to_string());
        let meter = Meter::new(MeterOptions { folder: Some(folder), ..MeterOptions::default() })?;
        flush::open(&meter, &self.db, &self.clock).await?;
        self.meter = Some(meter);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        // A counter keeps its day, regardless of the time.
        self.clock.now().plus(Duration::from_secs(60) * self.minutes)
    }

    /// Counts one request of every credential.
    fn count(&mut self) {
        let now = self.now();
        self.turns += 1;
        for counted in &self.counted {
            if let Some(meter) = &self.meter {
                meter.count(counted, now);
            }
        }
    }

    async fn flush(&self) -> Result<Duration> {
        let meter = self.meter.as_ref().ok_or("no journal")?;
        let began = Instant::now();
        flush::flush(meter, &self.db, &self.clock).await?;
        Ok(began.elapsed())
    }

    /// The straightforward implementation: one statement with the same rows, also sorted.
    async fn bare(&self) -> Result<Duration> {
        let (mut projects, mut days, mut credentials) = (Vec::new(), Vec::new(), Vec::new());
        let (mut kinds, mut routes, mut counts) = (Vec::<i16>::new(), Vec::<i32>::new(), Vec::<i64>::new());
        let began = Instant::now();
        for counted in &self.counted {
            let (kind, id) = match counted.credential {
                CredentialId::Session(id) => (1, id.as_u128()),
                CredentialId::Key(id) => (2, id.as_u128()),
                CredentialId::Token(id) => (3, id.as_u128()),
            };
            projects.push(counted.project);
            days.push(counted.day);
            credentials.push(Uuid::from_u128(id));
            kinds.push(kind);
            routes.push(counted.route.cast_signed());
            counts.push(self.turns);
        }
        sqlx::query(
            "INSERT INTO bare (project_id, day, credential_id, kind, route, journal, n)
             SELECT r.project_id, r.day, r.credential_id, r.kind, r.route, $7, r.n
             FROM unnest($1::uuid[], $2::date[], $3::uuid[], $4::smallint[], $5::int[], $6::bigint[])
                  AS r (project_id, day, credential_id, kind, route, n)
             ON CONFLICT (project_id, day, credential_id, kind, route, journal) DO UPDATE SET n = excluded.n",
        )
        .bind(projects)
        .bind(days)
        .bind(credentials)
        .bind(kinds)
        .bind(routes)
        .bind(counts)
        .bind(self.journals)
        .execute(&self.db)
        .await?;
        Ok(began.elapsed())
    }

    /// Measures the parts of a flush: each statement separately.
    async fn parts(&mut self) -> Result<()> {
        let (mut whole, mut rows, mut uses) = (Vec::new(), Vec::new(), Vec::new());
        let journal = Uuid::new_v4();
        for _ in 0..=ROUNDS {
            self.minutes += 1;
            self.count();
            whole.push(milliseconds(self.flush().await?));
            let mut db = self.db.acquire().await?;
            let now = self.clock.now();
            let sent = self.rows();
            let began = Instant::now();
            ledger::write(&mut db, journal, now, &sent).await?;
            rows.push(milliseconds(began.elapsed()));
            self.minutes += 1;
            let used = self.now().minute();
            let used: Vec<_> = self.counted.iter().map(|counted| (counted.credential, used)).collect();
            let began = Instant::now();
            ledger::update_last_used(&mut db, &used).await?;
            uses.push(milliseconds(began.elapsed()));
        }
        println!(
            "  of {:.0} ms in the first second of a minute: writing rows and totals {:.0} ms, last uses {:.0} ms",
            median(&mut whole),
            median(&mut rows),
            median(&mut uses)
        );
        Ok(())
    }

    fn rows(&self) -> Vec<UsageRow> {
        let row = |counted: &CounterKey| {
            let CounterKey { credential, route, day, .. } = *counted;
            Some(UsageRow { project: counted.project?, day, credential, route, count: self.turns })
        };
        self.counted.iter().filter_map(row).collect()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Inserts projects with equal numbers of keys and tokens, as the API does. Returns them in the order in which rows are
/// written.
async fn insert_credentials(db: &PgPool, now: Timestamp) -> Result<Vec<CounterKey>> {
    let mut counted = Vec::new();
    let today: Date = now.date();
    for _ in 0..PROJECTS {
        let project = ProjectId::new();
        let ids = |_| Uuid::now_v7();
        let keys: Vec<Uuid> = (0..CREDENTIALS_EACH / 2).map(ids).collect();
        let tokens: Vec<Uuid> = (0..CREDENTIALS_EACH / 2).map(ids).collect();
        sqlx::query("INSERT INTO projects (id, name, created_at) VALUES ($1, 'Bench', now())")
            .bind(project)
            .execute(db)
            .await?;
        sqlx::query(
            "INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
             SELECT id, $2, 'bench', ARRAY['tokens:introspect', 'users:read'], now(), 'sk_live_xxxx' FROM unnest($1) AS id",
        )
        .bind(&keys)
        .bind(project)
        .execute(db)
        .await?;
        sqlx::query(
            "INSERT INTO tokens (id, project_id, secret_hash, hint, name, scopes, issuer_key_id, depth, created_at, expires_at)
             SELECT id, $2, sha256(uuid_send(id)), 'st_live_xxxx', 'bench', ARRAY['users:read'], $3, 1, now(), now() + interval '1 day'
             FROM unnest($1) AS id",
        )
        .bind(&tokens)
        .bind(project)
        .bind(keys[0])
        .execute(db)
        .await?;
        let key = |id: &Uuid| CredentialId::Key(KeyId::from_u128(id.as_u128()));
        let token = |id: &Uuid| CredentialId::Token(TokenId::from_u128(id.as_u128()));
        counted.extend(keys.iter().map(key).chain(tokens.iter().map(token)).map(|credential| CounterKey {
            project: Some(project),
            credential,
            route: ROUTE,
            day: today,
        }));
    }
    Ok(counted)
}

/// Creates a table with the columns, primary key and storage options of `usage_node`, and nothing else.
async fn make_bare_table(db: &PgPool) -> Result<()> {
    let (key, options): (String, Option<String>) = sqlx::query_as(
        "SELECT pg_get_constraintdef(k.oid), array_to_string(t.reloptions, ', ')
         FROM pg_class t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'p'
         WHERE t.oid = 'usage_node'::regclass",
    )
    .fetch_one(db)
    .await?;
    let storage = options.map_or_else(String::new, |options| format!(" WITH ({options})"));
    let create = format!("CREATE TABLE bare (LIKE usage_node INCLUDING DEFAULTS, {key}){storage}");
    sqlx::query(AssertSqlSafe(create)).execute(db).await?;
    Ok(())
}
