//! A database with its server, and one connection to the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use cloudapi::base::runtime::clock::Clock;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    lists::List,
    project::Project,
    samples,
    seed::{Counts, Seed},
    shapes::{LARGE_PROJECT, Shape},
    support::{
        Result, Server, bootstrap,
        load::{Client, request, text},
    },
};

/// Maximum number of pages that are read to find a cursor that is not the ID of a row.
const WALKED_PAGES: usize = 10;

/// A database with its server.
pub struct Deployment {
    server: Server,
    client: Client,
    db: PgConnection,
    /// Session of the owner of all projects.
    session: String,
    projects: Vec<Project>,
    /// Cursors that were found by reading pages, by the path of the first page.
    walked: BTreeMap<String, Option<String>>,
}

/// Response to a request.
pub struct Reply {
    pub ms: f64,
    pub status: u16,
    /// Number of items on the page.
    pub items: usize,
    next_cursor: Option<String>,
}

impl Deployment {
    /// Creates the database with this number of rows in the large project, and starts its server.
    pub async fn prepare(folder: &Path, database: &str, counts: Counts, lists: &[List]) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (session, project) = bootstrap(folder, database)?;
        let keys = create_keys(folder, database, &session, project, lists).await?;
        let mut db = PgConnection::connect(database).await?;
        let user: Uuid = sqlx::query_scalar("SELECT id FROM users").fetch_one(&mut db).await?;
        let now = Clock::system().now();
        let mut projects = Vec::new();
        for (number, (id, key)) in keys.into_iter().enumerate() {
            let is_large = number == LARGE_PROJECT;
            let counts = if is_large { counts } else { Counts::SMALL };
            let seed = Seed::new(u32::try_from(number)?, id.parse()?, user, counts, now);
            projects.push(Project::insert(&mut db, &seed, id, key, if is_large { lists } else { &[] }).await?);
        }
        // Autovacuum does both within minutes. The checkpoint writes what would be written during the measurement.
        for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
            sqlx::raw_sql(sql).execute(&mut db).await?;
        }
        let server = Server::cloudapi(folder, database, &[])?;
        let client = Client::open(server.address).await?;
        Ok(Self { server, client, db, session, projects, walked: BTreeMap::new() })
    }

    /// Number of the server's connections to the database, except the sealer's.
    pub async fn connections(&mut self) -> Result<usize> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cloudapi'",
        )
        .fetch_one(&mut self.db)
        .await?;
        Ok(usize::try_from(count)?)
    }

    /// The request of a shape; none if the list has no such page.
    pub async fn request(&mut self, list: &List, shape: &Shape) -> Result<Option<Vec<u8>>> {
        let cursor;
        let mut paging = Vec::new();
        if shape.position.is_descending() {
            paging.push(("order", "desc"));
        }
        if shape.position.is_deep() {
            let Some(found) = self.cursor(list, shape).await? else { return Ok(None) };
            cursor = found;
            paging.push(("cursor", cursor.as_str()));
        }
        Ok(Some(self.get_request(shape, &self.projects[shape.project].path(list, shape, &paging))))
    }

    fn get_request(&self, shape: &Shape, path: &str) -> Vec<u8> {
        let secret = if shape.with_key { &self.projects[shape.project].key } else { &self.session };
        request("GET", path, secret, "", "")
    }

    async fn cursor(&mut self, list: &List, shape: &Shape) -> Result<Option<String>> {
        if samples::rows(&list.path).is_some() {
            return Ok(self.projects[shape.project].cursors.get(&list.path).cloned());
        }
        let first = self.projects[shape.project].path(list, shape, &[]);
        if let Some(found) = self.walked.get(&first) {
            return Ok(found.clone());
        }
        let found = self.walk(list, shape).await?;
        self.walked.insert(first, found.clone());
        Ok(found)
    }

    /// Reads pages to find a cursor: that of the tenth page of 100 items, or of the middle of a short list.
    async fn walk(&mut self, list: &List, shape: &Shape) -> Result<Option<String>> {
        let first = self.get(list, shape, &[("limit", "100")]).await?;
        let Some(mut cursor) = first.next_cursor else {
            let half = (first.items / 2).max(1).to_string();
            return Ok(self.get(list, shape, &[("limit", half.as_str())]).await?.next_cursor);
        };
        for _ in 1..WALKED_PAGES {
            let page = self.get(list, shape, &[("limit", "100"), ("cursor", cursor.as_str())]).await?;
            let Some(next) = page.next_cursor else { break };
            cursor = next;
        }
        Ok(Some(cursor))
    }

    async fn get(&mut self, list: &List, shape: &Shape, paging: &[(&str, &str)]) -> Result<Reply> {
        let request = self.get_request(shape, &self.projects[shape.project].path(list, shape, paging));
        self.send(&request).await
    }

    /// Sends a request and reads its response, which may be an error.
    pub async fn send(&mut self, request: &[u8]) -> Result<Reply> {
        if let Ok(reply) = self.try_send(request).await {
            return Ok(reply);
        }
        // The server closes idle connections.
        self.client = Client::open(self.server.address).await?;
        self.try_send(request).await
    }

    async fn try_send(&mut self, request: &[u8]) -> Result<Reply> {
        let began = Instant::now();
        let response = self.client.send(request, 200).await;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        match response {
            Ok(body) => {
                let page: Value = serde_json::from_slice(body)?;
                let items = page["data"].as_array().map_or(0, Vec::len);
                let next_cursor = page["next_cursor"].as_str().map(str::to_owned);
                Ok(Reply { ms, status: 200, items, next_cursor })
            }
            Err(error) => {
                // The client returns a response with another status as an error.
                let text = error.to_string();
                let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
                Ok(Reply { ms, status: status.ok_or(error)?, items: 0, next_cursor: None })
            }
        }
    }
}

/// Creates the small project, and a key of each project with the scopes of all lists. Returns the projects and keys,
/// the large project first. The server also inserts its routes into the database, and seals the audit entries.
async fn create_keys(
    folder: &Path,
    database: &str,
    session: &str,
    project: String,
    lists: &[List],
) -> Result<Vec<(String, String)>> {
    let server = Server::cloudapi(folder, database, &[])?;
    let mut client = Client::open(server.address).await?;
    let other = client.create("/v1/projects", session, &json!({ "name": "Small project" })).await?;
    let other = text(&other, "id")?;
    let scopes: BTreeSet<&String> = lists.iter().flat_map(|list| &list.key_scopes).collect();
    let mut keys = Vec::new();
    for project in [project, other] {
        let body = json!({ "project_id": project, "scopes": scopes });
        let key = text(&client.create("/v1/keys", session, &body).await?, "key")?;
        keys.push((project, key));
    }
    // Entries that the next server sealed minutes later would widen the range of IDs that a time range reads.
    let mut db = PgConnection::connect(database).await?;
    while sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM audit_staged)").fetch_one(&mut db).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(keys)
}
