//! Measures what each page of the console costs, next to the calls of `/v1` that it makes. Run with
//! `cargo bench --bench console`; `-- keys` measures the pages whose path has this text.
//!
//! The cost is the time per response at full load, so it contains the work of the server and of PostgreSQL. The calls are
//! those that the page shows as curl commands, and that of the layout.

#![allow(clippy::print_stdout, clippy::indexing_slicing, reason = "a program for a terminal")]

mod support;

use std::{env, path::Path, time::Duration};

use cloudapi::console::pages::{Access, TABLE};
use serde_json::{Value, json};

use support::{
    Result, Server, bootstrap, console_link,
    load::{self, Client, JSON, always, request, text},
    median,
    postgres::Postgres,
};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(400);
/// Maximum cost of a page, of that of its calls.
const BAR: f64 = 1.3;
/// Call that the layout of every page makes.
const LAYOUT: &str = "/v1/users/me";
const ITEMS: usize = 30;
/// Name of the session cookie for `load::request`, which has a host without a port.
const COOKIE: &str = "cloudapi-80";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test` builds benches too, and runs them with this argument.
    if arguments.iter().any(|argument| argument == "--test") {
        return Ok(());
    }
    let selected = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start(folder.path())?;
    let bench = Bench::prepare(folder.path(), &postgres.url)?;
    println!("page: time per response, of that of its calls (bar {BAR})");
    for page in
        TABLE.iter().filter(|page| page.access == Access::SignedIn && page.is_html && page.path.contains(&selected))
    {
        bench.measure(&bench.path(page.path)?)?;
    }
    Ok(())
}

struct Bench {
    server: Server,
    session: String,
    /// Header with the session cookie of the console.
    cookie: String,
    /// Parameters of paths, with an example of each.
    examples: Vec<(&'static str, String)>,
}

impl Bench {
    fn prepare(folder: &Path, database: &str) -> Result<Self> {
        let (session, project) = bootstrap(folder, database)?;
        let link = console_link(folder, database)?;
        let server = Server::cloudapi(folder, database, &[])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (cookie, examples) = runtime.block_on(async {
            let mut client = Client::open(server.address).await?;
            // With one project, the list of projects leads to it.
            client.create("/v1/projects", &session, &json!({ "name": "Another" })).await?;
            let examples = make_examples(&mut client, &session, &project).await?;
            let form = format!("link={link}");
            let more = "sec-fetch-site: same-origin\r\ncontent-type: application/x-www-form-urlencoded\r\n";
            client.send(&request("POST", "/console/sign-in", "-", more, &form), 303).await?;
            let cookie = client.header("set-cookie").ok_or("no session cookie")?;
            let cookie = cookie.split(';').next().unwrap_or_default();
            if !cookie.starts_with(COOKIE) {
                return Err(format!("the session cookie is '{cookie}'").into());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((format!("cookie: {cookie}\r\n"), examples))
        })?;
        Ok(Self { server, session, cookie, examples })
    }

    /// The path with an example of each parameter.
    fn path(&self, template: &str) -> Result<String> {
        let path = self
            .examples
            .iter()
            .fold(template.to_owned(), |path, (parameter, example)| path.replace(&format!("{{{parameter}}}"), example));
        if path.contains('{') { Err(format!("{path}: give the bench an example").into()) } else { Ok(path) }
    }

    fn measure(&self, path: &str) -> Result<()> {
        let page = always(request("GET", path, "-", &self.cookie, ""));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let html = runtime.block_on(async {
            let mut client = Client::open(self.server.address).await?;
            let html = client.send(&page(0), 200).await?.to_vec();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(String::from_utf8(html)?)
        })?;
        let mut calls = calls_of(&html);
        calls.push(LAYOUT.to_owned());
        let calls: Vec<_> = calls.iter().map(|call| always(request("GET", call, &self.session, "", ""))).collect();
        let cost = |requests| {
            Ok::<f64, Box<dyn std::error::Error + Send + Sync>>(
                1e6 / load::throughput(self.server.address, 200, requests, ROUND)?,
            )
        };
        let (mut pages, mut sums, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let page = cost(&page)?;
            let mut sum = 0.0;
            for call in &calls {
                sum += cost(call)?;
            }
            // The first round warms up.
            if round > 0 {
                pages.push(page);
                sums.push(sum);
                ratios.push(page / sum);
            }
        }
        let ratio = median(&mut ratios);
        println!(
            "  {ratio:.2}{} {path}: {:.0} µs, {} calls {:.0} µs, {} bytes",
            if ratio > BAR { " !" } else { "  " },
            median(&mut pages),
            calls.len(),
            median(&mut sums),
            html.len()
        );
        Ok(())
    }
}

/// Fills the project, and returns an example of each parameter of a path.
async fn make_examples(client: &mut Client, session: &str, project: &str) -> Result<Vec<(&'static str, String)>> {
    let mut examples = vec![("project_id", project.to_owned())];
    let scopes = ["users:read", "usage:read"];
    for number in 0..ITEMS {
        let name = format!("item {number}");
        let objects = [
            ("key_id", "/v1/keys", json!({ "project_id": project, "name": name, "scopes": scopes })),
            ("token_id", "/v1/tokens", json!({ "project_id": project, "name": name, "scopes": scopes })),
            (
                "user_id",
                "/v1/users",
                json!({ "project_id": project, "email": format!("user{number}@example.com"), "role": "viewer" }),
            ),
        ];
        for (parameter, path, body) in objects {
            let made = client.create(path, session, &body).await?;
            examples.retain(|(known, _)| *known != parameter);
            let made = made.get("user").unwrap_or(&made);
            examples.push((parameter, text(made, "id")?));
        }
        let body = json!({
            "project_id": project, "kind": "storage.volume", "name": format!("volume-{number}"), "spec": { "size_gib": 20 },
        });
        let made = client.send(&request("POST", "/v1/resources", session, JSON, &body.to_string()), 202).await?;
        let made: Value = serde_json::from_slice(made)?;
        examples.retain(|(known, _)| !["resource_id", "operation_id"].contains(known));
        examples.push(("resource_id", text(&made["resource"], "id")?));
        examples.push(("operation_id", text(&made["operation"], "id")?));
    }
    let url = "https://example.com/hook";
    let made = client.create("/v1/webhooks", session, &json!({ "project_id": project, "url": url })).await?;
    let webhook = text(made.get("webhook").unwrap_or(&made), "id")?;
    client.send(&request("POST", &format!("/v1/webhooks/{webhook}/test"), session, JSON, "{}"), 202).await?;
    for (parameter, path) in [
        ("event_id", format!("/v1/events?project_id={project}")),
        ("entry_id", format!("/v1/audit-logs?project_id={project}")),
        ("delivery_id", format!("/v1/webhooks/{webhook}/deliveries")),
    ] {
        let list: Value = serde_json::from_slice(client.send(&request("GET", &path, session, "", ""), 200).await?)?;
        examples.push((parameter, text(&list["data"][0], "id")?));
    }
    examples.push(("webhook_id", webhook));
    Ok(examples)
}

/// Paths of the GET calls that a page shows as curl commands.
fn calls_of(html: &str) -> Vec<String> {
    let commands = html.split("<code id=\"curl-").skip(1).filter_map(|part| part.split("</code>").next());
    let gets = commands.filter(|command| !command.contains(" -X ") && !command.contains(" -d "));
    let url = |command: &str| {
        let start = command.find("http://")?;
        let path = command.get(start + "http://".len()..)?;
        let path = path.get(path.find('/')?..)?;
        let end = path.find(|char: char| char.is_whitespace() || char == '\'').unwrap_or(path.len());
        let path = path.get(..end)?;
        let path = path.split("&#39;").next()?;
        Some(path.replace("&#38;", "&").replace("&amp;", "&"))
    };
    gets.filter_map(url).collect()
}
