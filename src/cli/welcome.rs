//! What a server says on standard output when it starts: where it listens, and on a terminal the
//! lines to try it with. Secrets go to a terminal only: elsewhere this output is a log.

use std::io::{self, IsTerminal, Write};

use super::demo;
use crate::{base::secret::Secret, state::App};

/// Where the server listens, in one line that scripts can read.
pub fn listening(url: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "cloudapi listens on {url}")?)
}

/// The welcome of a server on its private PostgreSQL.
pub async fn ready(app: &App, url: &str, first_start: bool) -> anyhow::Result<()> {
    listening(url)?;
    let has_demo = demo::is_loaded(app).await?;
    if !has_demo {
        let hint = "cloudapi admin bootstrap --email YOU@EXAMPLE.COM --project NAME";
        return Ok(writeln!(
            io::stdout(),
            "\nThe API's reference, to read and to try, is at {url}/docs.\nMake a first project with: {hint}"
        )?);
    }
    if !io::stdout().is_terminal() {
        let hint = format!("cloudapi admin session --email {}", demo::OWNER_EMAIL);
        return Ok(writeln!(
            io::stdout(),
            "\nThe API's reference, to read and to try, is at {url}/docs.\nGet a session with: {hint}"
        )?);
    }
    let (session, key) = demo::credentials(app).await?;
    Ok(io::stdout().write_all(examples(url, &session, &key, first_start).as_bytes())?)
}

fn examples(url: &str, session: &Secret, key: &Secret, first_start: bool) -> String {
    let greeting =
        if first_start { "A new database was made, with the reference's examples in it." } else { "Welcome back." };
    let (session, key) = (session.expose(), key.expose());
    format!(
        r#"
{greeting} The API's reference, to read and to try, is at {url}/docs.
Paste this into another terminal:

  export CLOUDAPI_URL={url}
  export CLOUDAPI_SESSION={session}
  export CLOUDAPI_TOKEN={key}

  curl $CLOUDAPI_URL/v1/projects -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl "$CLOUDAPI_URL/v1/users?limit=25" -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/usage -H "Authorization: Bearer $CLOUDAPI_TOKEN"
  curl $CLOUDAPI_URL/v1/keys -H "Authorization: Bearer $CLOUDAPI_SESSION" \
    -H "Content-Type: application/json" -d '{{"project_id":"proj_8f2c4"}}'

Ctrl-C stops the server; what it holds is kept.
"#
    )
}
