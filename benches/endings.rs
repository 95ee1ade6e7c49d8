//! Measures how long it takes to revoke a key that has issued 800,000 tokens, and to delete a project with 200,000 keys,
//! 200,000 tokens and 100,000 members, next to the same requests for a key without tokens and for an empty project. What
//! has ended must be refused by a second server as soon as the first one has responded. Then the rows of the project must
//! be removed while others write. Run with `cargo bench --bench endings`; `-- 0.1` scales the numbers of rows.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{
    env,
    time::{Duration, Instant},
};

use cloudapi::base::id::{KeyId, ProjectId};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use support::{
    Result, Server, bootstrap,
    deployment::Deployment,
    load::{Client, JSON, request, text},
    median,
    postgres::Postgres,
};

const ROUNDS: usize = 3;
/// Revocations and deletions of the baseline in each round.
const SMALL_ROUNDS: usize = 5;
/// Maximum time of a purge.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1_200);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let scale: f64 = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1.0);
    let scaled = |rows: f64| (rows * scale) as i64;
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let (session, project) = bootstrap(folder.path(), &postgres.url)?;
    let deployment = Deployment::new(folder.path(), &postgres.url)?;
    let servers = [deployment.start("here")?, deployment.start("there")?];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let db = PgConnection::connect(&postgres.url).await?;
        let mut bench = Bench { servers, session, db };
        bench.revoke_keys(&project, scaled(800_000.0)).await?;
        let rows = Rows { keys: scaled(200_000.0), tokens: scaled(200_000.0), members: scaled(100_000.0) };
        bench.delete_projects(&project, rows).await
    })
}

/// Number of rows of a project.
#[derive(Clone, Copy, Default)]
struct Rows {
    keys: i64,
    tokens: i64,
    members: i64,
}

/// A key, a token that it has issued, and a token that this token has issued.
struct Issued {
    key_id: KeyId,
    key: String,
    secrets: [String; 3],
}

struct Bench {
    servers: [Server; 2],
    session: String,
    db: PgConnection,
}

impl Bench {
    async fn here(&self) -> Result<Client> {
        Client::open(self.servers[0].address).await
    }

    async fn there(&self) -> Result<Client> {
        Client::open(self.servers[1].address).await
    }

    async fn revoke_keys(&mut self, project: &str, tokens: i64) -> Result<()> {
        println!("DELETE /v1/keys/{{id}}: time until the response, then 401 at the other server");
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for _ in 0..SMALL_ROUNDS {
                small.push(self.revoke_key(project, 0).await?);
            }
            large.push(self.revoke_key(project, tokens).await?);
        }
        print_comparison("a key without more tokens", &mut small, &format!("a key with {tokens} tokens"), &mut large);
        Ok(())
    }

    /// Milliseconds that the revocation of a key took.
    async fn revoke_key(&mut self, project: &str, tokens: i64) -> Result<f64> {
        let issued = self.issue(project).await?;
        self.insert_tokens(project, issued.key_id, tokens).await?;
        self.use_there(&issued, 200).await?;
        let ms = self.timed("DELETE", &format!("/v1/keys/{}", issued.key), 200).await?;
        self.use_there(&issued, 401).await?;
        Ok(ms)
    }

    async fn delete_projects(&mut self, other: &str, rows: Rows) -> Result<()> {
        println!("DELETE /v1/projects/{{id}}: time until the response, then 401 at the other server");
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for _ in 0..SMALL_ROUNDS {
            small.push(self.delete_project(Rows::default()).await?);
        }
        let mut alone = self.writes_until_purged(other).await?.milliseconds;
        for _ in 0..ROUNDS {
            large.push(self.delete_project(rows).await?);
            let Purge { mut milliseconds, took } = self.writes_until_purged(other).await?;
            let slowest = milliseconds.iter().copied().fold(0.0, f64::max);
            println!(
                "  purged in {:.1} s, {:.0} rows/s; meanwhile, POST /v1/tokens of another project takes {:.2} ms (median of {}), \
                 at most {slowest:.1} ms",
                took.as_secs_f64(),
                (rows.keys * 2 + rows.tokens + rows.members) as f64 / took.as_secs_f64(),
                median(&mut milliseconds),
                milliseconds.len(),
            );
        }
        println!("  POST /v1/tokens without a purge: {:.2} ms", median(&mut alone));
        let Rows { keys, tokens, members } = rows;
        let of_large = format!("a project with {keys} keys, {tokens} tokens and {members} members");
        print_comparison("an empty project", &mut small, &of_large, &mut large);
        Ok(())
    }

    /// Milliseconds that the deletion of a project took, which was archived before.
    async fn delete_project(&mut self, rows: Rows) -> Result<f64> {
        let project = self.here().await?.create("/v1/projects", &self.session, &json!({ "name": "Ending" })).await?;
        let project = text(&project, "id")?;
        let issued = self.issue(&project).await?;
        self.insert_rows(&project, rows).await?;
        self.insert_tokens(&project, issued.key_id, rows.tokens).await?;
        self.use_there(&issued, 200).await?;
        let path = format!("/v1/projects/{project}");
        let archived = self.timed("POST", &format!("{path}/archive"), 200).await?;
        if rows.keys > 0 {
            println!("  archived in {archived:.2} ms");
        }
        let ms = self.timed("DELETE", &path, 200).await?;
        self.use_there(&issued, 401).await?;
        Ok(ms)
    }

    /// Creates tokens of another project, one after the other, until all rows of deleted projects are removed.
    async fn writes_until_purged(&mut self, project: &str) -> Result<Purge> {
        let issued = self.issue(project).await?;
        let body = json!({ "name": "meanwhile", "scopes": ["users:read"] }).to_string();
        let create = request("POST", "/v1/tokens", &issued.secrets[0], JSON, &body);
        let (mut client, began, mut milliseconds) = (self.here().await?, Instant::now(), Vec::new());
        loop {
            for _ in 0..20 {
                let sent = Instant::now();
                client.send(&create, 201).await?;
                milliseconds.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM purges").fetch_one(&mut self.db).await?;
            if left == 0 {
                return Ok(Purge { milliseconds, took: began.elapsed() });
            }
            if began.elapsed() > PURGE_TIMEOUT {
                return Err("the rows of a deleted project were not removed in time".into());
            }
            // The servers and PostgreSQL share the machine.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn issue(&self, project: &str) -> Result<Issued> {
        let scopes = ["tokens:write", "users:read"];
        let body = json!({ "project_id": project, "scopes": scopes });
        let mut client = self.here().await?;
        let made = client.create("/v1/keys", &self.session, &body).await?;
        let (key, secret) = (text(&made, "id")?, text(&made, "key")?);
        let body = json!({ "name": "token", "scopes": scopes });
        let token = text(&client.create("/v1/tokens", &secret, &body).await?, "token")?;
        let nested = text(&client.create("/v1/tokens", &token, &body).await?, "token")?;
        let key_id = key.parse().map_err(|_| "no key ID")?;
        Ok(Issued { key_id, key, secrets: [secret, token, nested] })
    }

    /// Uses the key and the tokens at the second server, which must respond with this status.
    async fn use_there(&self, issued: &Issued, status: u16) -> Result<()> {
        let mut client = self.there().await?;
        for secret in &issued.secrets {
            client.send(&request("GET", "/v1/users", secret, "", ""), status).await?;
        }
        Ok(())
    }

    /// Milliseconds until the response to a request of the owner.
    async fn timed(&self, method: &str, path: &str, status: u16) -> Result<f64> {
        let mut client = self.here().await?;
        let request = request(method, path, &self.session, "", "");
        let sent = Instant::now();
        client.send(&request, status).await?;
        Ok(sent.elapsed().as_secs_f64() * 1e3)
    }

    async fn insert_tokens(&mut self, project: &str, key: KeyId, count: i64) -> Result<()> {
        let project: ProjectId = project.parse().map_err(|_| "no project ID")?;
        sqlx::query(
            "INSERT INTO tokens (id, project_id, secret_hash, hint, name, scopes, issuer_key_id, depth, created_at, expires_at)
             SELECT id, $1, sha256(uuid_send(id)), 'cap_xxxx', 'token', '{users:read}', $2, 1, now(), now() + interval '30 days'
             FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $3)) AS made",
        )
        .bind(project)
        .bind(key)
        .bind(count)
        .execute(&mut self.db)
        .await?;
        self.analyze(count).await
    }

    async fn insert_rows(&mut self, project: &str, rows: Rows) -> Result<()> {
        let project: ProjectId = project.parse().map_err(|_| "no project ID")?;
        sqlx::query(
            "WITH made AS (
                 INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
                 SELECT gen_random_uuid(), $1, 'key', '{users:read}', now(), 'sk_live_xxxx' FROM generate_series(1, $2)
                 RETURNING id)
             INSERT INTO key_secrets (secret_hash, key_id, created_at) SELECT sha256(uuid_send(id)), id, now() FROM made",
        )
        .bind(project)
        .bind(rows.keys)
        .execute(&mut self.db)
        .await?;
        sqlx::query(
            "WITH made AS (
                 INSERT INTO users (id, email, email_key, created_at)
                 SELECT id, id || '@example.com', id || '@example.com', now()
                 FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $2)) AS ids
                 RETURNING id)
             INSERT INTO members (project_id, user_id, role, created_at) SELECT $1, id, 'viewer', now() FROM made",
        )
        .bind(project)
        .bind(rows.members)
        .execute(&mut self.db)
        .await?;
        Ok(())
    }

    /// As autovacuum does within minutes. The checkpoint writes what would be written during the measurement.
    async fn analyze(&mut self, count: i64) -> Result<()> {
        for sql in ["VACUUM ANALYZE", "CHECKPOINT"].into_iter().filter(|_| count > 0) {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.db).await?;
        }
        Ok(())
    }
}

/// What happened while rows were removed.
struct Purge {
    /// Times of writes of another project.
    milliseconds: Vec<f64>,
    took: Duration,
}

fn print_comparison(of_small: &str, small: &mut [f64], of_large: &str, large: &mut [f64]) {
    let each: Vec<String> = large.iter().map(|ms| format!("{ms:.2}")).collect();
    let (base, ours) = (median(small), median(large));
    println!("  {of_small}: {base:.2} ms (median of {})", small.len());
    println!("  {of_large}: {} ms, {:.2} times as long", each.join(", "), ours / base);
}
