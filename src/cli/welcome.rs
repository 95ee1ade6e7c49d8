//! What a server says on standard output when it starts: where it listens, and on a terminal the
//! lines to try it with. Secrets go to a terminal only: elsewhere this output is a log.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use super::{demo, output::announce, quick_start};
use crate::{base::secret::Secret, state::App};

/// Where the server serves, in one line that scripts can read. To be said when it does.
pub fn listening(url: &str) {
    announce(&format!("cloudapi listens on {url}"));
}

/// What the server waits for before it serves.
pub fn waiting(url: &str, why: &str) {
    announce(&format!("cloudapi waits before it serves {url}: {why}"));
}

/// That the private PostgreSQL is being started, to somebody at a terminal: the first time it takes a while.
pub fn starting(data_dir: &Path) {
    if io::stdout().is_terminal() {
        announce(&format!("cloudapi starts its own PostgreSQL in {}", data_dir.display()));
    }
}

/// The welcome of a server on its private PostgreSQL.
pub async fn ready(app: &App, url: &str, first_start: bool) -> anyhow::Result<()> {
    listening(url);
    let reference = format!("\nThe API's reference, to read and to try, is at {url}/docs.");
    if !demo::is_loaded(app).await? {
        let hint = "cloudapi admin bootstrap --email YOU@EXAMPLE.COM --project NAME";
        announce(&format!("{reference}\nMake a first project with: {hint}"));
    } else if io::stdout().is_terminal() {
        let (session, key) = quick_start::credentials(app).await?;
        announce(&examples(url, &session, &key, first_start));
    } else {
        announce(&format!("{reference}\nGet a session with: cloudapi admin session --email {}", demo::OWNER_EMAIL));
    }
    Ok(())
}

fn examples(url: &str, session: &Secret, key: &Secret, first_start: bool) -> String {
    let greeting =
        if first_start { "A new database was made, with the reference's examples in it." } else { "Welcome back." };
    let (session, key) = (session.expose(), key.expose());
    format!(
        r#"
{greeting} The API's reference, to read and to try, is at {url}/docs.
Paste this into another terminal; the next start on a terminal shows another key and session, and ends these:

  export CLOUDAPI_URL={url}
  export CLOUDAPI_SESSION={session}
  export CLOUDAPI_TOKEN={key}

  curl $CLOUDAPI_URL/v1/projects -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl "$CLOUDAPI_URL/v1/users?limit=25" -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/usage -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/keys -H "Authorization: Bearer $CLOUDAPI_SESSION" \
    -H "Content-Type: application/json" -d '{{"project_id":"proj_8f2c4"}}'

Ctrl-C stops the server; what it holds is kept."#
    )
}
