//! Startup messages on standard output: the URL and, on a terminal, commands to try the API. Secrets are shown on a
//! terminal only, because other outputs are logs.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use super::demo;
use crate::{
    api::sessions::links,
    cli::{
        quick_start::{self, QuickStart},
        support::output::announce,
    },
    server::state::App,
};

/// Prints the URL in one line that scripts can parse. Called when the server is ready.
pub fn print_listening(url: &str) {
    announce(&format!("cloudapi listens on {url}"));
}

/// Prints why the server is not ready yet.
pub fn print_waiting(url: &str, reason: &str) {
    announce(&format!("cloudapi waits before it serves {url}: {reason}"));
}

/// Tells a user at a terminal that the private PostgreSQL starts, because the first start takes a while.
pub fn print_starting(data_dir: &Path) {
    if io::stdout().is_terminal() {
        announce(&format!("cloudapi starts its own PostgreSQL in {}", data_dir.display()));
    }
}

/// Prints the welcome of a server on its private PostgreSQL.
pub async fn print_ready(app: &App, url: &str, console_url: &str, first_start: bool) -> anyhow::Result<()> {
    print_listening(url);
    let reference = format!("\nInteractive API reference: {url}/docs");
    if !demo::is_loaded(app).await? {
        let hint = "cloudapi admin bootstrap --email YOU@EXAMPLE.COM --project NAME";
        announce(&format!("{reference}\nCreate a first project with: {hint}"));
    } else if io::stdout().is_terminal() {
        let issued = quick_start::credentials(app).await?;
        announce(&examples(url, console_url, &issued, first_start));
    } else {
        let email = demo::OWNER_EMAIL;
        announce(&format!(
            "{reference}\nOpen the console with the link from: cloudapi admin console-link --email {email}\n\
             Create a session with: cloudapi admin session --email {email}"
        ));
    }
    Ok(())
}

fn examples(url: &str, console_url: &str, issued: &QuickStart, first_start: bool) -> String {
    let greeting = if first_start { "Created a new database with the example data." } else { "Welcome back." };
    let (session, key) = (issued.session.expose(), issued.key.expose());
    let link = links::url(console_url, &issued.link);
    format!(
        r#"
{greeting} Open the console. This link works once, within 60 minutes:

  {link}

Interactive API reference: {url}/docs
Paste this into another terminal. The next start on a terminal replaces this key and this session:

  export CLOUDAPI_URL={url}
  export CLOUDAPI_SESSION={session}
  export CLOUDAPI_TOKEN={key}

  curl $CLOUDAPI_URL/v1/projects -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl "$CLOUDAPI_URL/v1/users?limit=25" -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/usage -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/keys -H "Authorization: Bearer $CLOUDAPI_SESSION" \
    -H "Content-Type: application/json" -d '{{"project_id":"proj_8f2c4"}}'

Ctrl-C stops the server and keeps its data."#
    )
}
