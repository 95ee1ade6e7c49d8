//! `cloudapi admin …`: operator commands that no API client may run.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Subcommand;
use nix::unistd::{Uid, User};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgConnection;

mod quota;

use quota::{RequestLimit, ResourceQuota};

use super::{
    database::{ADMIN_CONNECTIONS, Database},
    server_key,
    support::output::print,
};
use crate::{
    api::{
        projects::{
            self,
            model::{NewProject, Project},
        },
        sessions::{self, model::IssuedSession},
        users::{self, model::MemberStatus},
    },
    auth::{
        credentials::accounts::{self, Account},
        passwords::{Passwords, rules},
        revocation::node::Node,
    },
    base::{
        action::Action,
        hex,
        id::{ProjectId, UserId},
        identity::role::Role,
        input::{email::Email, text},
        runtime::{
            clock::{Clock, Timestamp},
            request::RequestContext,
        },
    },
    db,
    server::config::{AddressSettings, Settings},
    tx::{Change, Writes},
};

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Create the first owner and project, or find them, and print a session for the owner.
    Bootstrap {
        /// Email address of the owner.
        #[arg(long)]
        email: String,
        /// Name of the project.
        #[arg(long)]
        project: String,
        /// Read a password for the owner from standard input: 12 to 128 characters, not a common password.
        #[arg(long)]
        password_stdin: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show or set a project's quotas: included requests, hard limit and number of resources.
    Project {
        /// ID of the project.
        project: String,
        /// Requests included per month: a number, or 'unlimited'. Requests beyond that are overage.
        #[arg(long, value_name = "N|unlimited")]
        included: Option<RequestLimit>,
        /// Requests per month after which the project's keys and tokens are refused: a number, or 'none'.
        #[arg(long, value_name = "N|none")]
        hard_limit: Option<RequestLimit>,
        /// Maximum number of resources of a kind. The default is 100. Can be repeated.
        #[arg(long, value_name = "KIND=N")]
        resources: Vec<ResourceQuota>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace the deployment's key with the key in CLOUDAPI_SECRET_KEY_FILE, or secret.key in the data directory.
    ///
    /// Use this after the old key was lost or leaked. Stop all servers first, and give each of them the new file.
    /// Afterwards, webhooks need new secrets (POST /v1/webhooks/{id}/rotate-secret), and everyone who verifies the
    /// audit trail needs the new public key.
    ReplaceKey {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a link that signs a user in to the console.
    ///
    /// The link works once, within 60 minutes. The person who opens it is signed in as this user. The address is
    /// CLOUDAPI_PUBLIC_URL, or else the address that the server listens on.
    ConsoleLink {
        /// Email address of the user.
        #[arg(long)]
        email: String,
        #[command(flatten)]
        address: AddressSettings,
        /// Certificate of the server, which then serves https.
        #[arg(long, env = "CLOUDAPI_TLS_CERT", value_name = "FILE")]
        tls_cert: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a session for a user.
    Session {
        /// Email address of the user.
        #[arg(long)]
        email: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs an `admin` command.
pub async fn run(settings: Settings, command: Admin) -> anyhow::Result<()> {
    // Reading standard input can fail or block, so it comes before opening the database.
    let password = match &command {
        Admin::Bootstrap { password_stdin: true, email, .. } => Some(read_password(&parse_email(email)?)?),
        _ => None,
    };
    let database = Database::open(&settings, ADMIN_CONNECTIONS).await?;
    let writes = Writes::new(Node::new(database.pool.clone(), false), Clock::system());
    let outcome = match command {
        Admin::Bootstrap { email, project, json, .. } => bootstrap(&writes, &email, project, password, json).await,
        Admin::Project { project, included, hard_limit, resources, json } => {
            quota::set(&writes, &project, (included, hard_limit), &resources, json).await
        }
        Admin::ConsoleLink { email, address, tls_cert, json } => {
            console_link(&writes, &email, &address, tls_cert.is_some(), json).await
        }
        Admin::ReplaceKey { json } => replace_key(&writes, &settings, json).await,
        Admin::Session { email, json } => session(&writes, &email, json).await,
    };
    let closed = database.close().await;
    print(&outcome?)?;
    closed
}

async fn bootstrap(
    writes: &Writes,
    email: &str,
    project: String,
    password: Option<SecretString>,
    json: bool,
) -> anyhow::Result<String> {
    let email = parse_email(email)?;
    if project.is_empty() || project.chars().count() > 100 || text::check(&project).is_err() {
        bail!("--project must have 1 to 100 characters, none of them a control character");
    }
    let hash = match password {
        Some(password) => Some(Passwords::new()?.hash(password).await?),
        None => None,
    };
    let now = Clock::system().now();
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let user = users::repo::find_or_insert(tx.db(), UserId::new(), &email, now).await?;
    let sets_password = hash.is_some();
    if let Some(hash) = hash {
        accounts::set_password_hash(tx.db(), user.id, &hash).await?;
    }
    let project = find_or_insert_project(tx.db(), user.id, project, now).await?;
    let session = sessions::repo::issue(tx.db(), user.id, user.email, now).await?;
    tx.add_change(sessions::created_change(&session));
    let change = Change::new(Action::DeploymentBootstrapped, project.id, Some(project.id))
        .with("owner", &session.user)
        .with("password_set", sets_password)
        .with("project", &project);
    let (project, session) = tx.commit(change, (project, session)).await?;
    if json {
        let printed = json!({ "user": session.user, "project": project, "session": session_json(&session)? });
        return Ok(printed.to_string());
    }
    Ok(format!(
        "project  {} ({})\nowner    {} ({})\nsession  {}\nexpires  {}, or after 12 hours without a request",
        project.id,
        project.name,
        session.user.id,
        session.user.email,
        session.token.expose(),
        session.expires_at
    ))
}

async fn replace_key(writes: &Writes, settings: &Settings, json: bool) -> anyhow::Result<String> {
    let key = server_key::load(settings)?;
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let before = db::replace_key(tx.db(), &key).await?.map(|before| hex::encode(&before));
    let now = hex::encode(&key.fingerprint());
    let is_new = before.as_ref() != Some(&now);
    if is_new {
        let change = Change::for_deployment(Action::DeploymentKeyReplaced).with("fingerprint", json!([before, now]));
        tx.commit(change, ()).await?;
    } else {
        tx.commit_unchanged(()).await?;
    }
    Ok(match (json, is_new) {
        (true, _) => json!({ "fingerprint": now, "replaced": is_new }).to_string(),
        (false, true) => "The key was replaced. Servers with another key refuse to start.".to_owned(),
        (false, false) => "The deployment already uses this key. Nothing was changed.".to_owned(),
    })
}

async fn session(writes: &Writes, email: &str, json: bool) -> anyhow::Result<String> {
    let email = parse_email(email)?;
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let session = issue_session(tx.db(), &email, Clock::system().now()).await?;
    let session = tx.commit(sessions::created_change(&session), session).await?;
    // Without --json, print only the secret, for `$(cloudapi admin session …)`.
    Ok(if json { session_json(&session)?.to_string() } else { session.token.expose().to_owned() })
}

async fn console_link(
    writes: &Writes,
    email: &str,
    address: &AddressSettings,
    https: bool,
    json: bool,
) -> anyhow::Result<String> {
    let email = parse_email(email)?;
    if address.public_url.is_none() && address.listen.port() == 0 {
        bail!(
            "the port of the server is unknown, because CLOUDAPI_LISTEN has port 0; set CLOUDAPI_PUBLIC_URL (--public-url)"
        );
    }
    let now = Clock::system().now();
    let mut tx = writes.begin(&Arc::new(by_operator())).await?;
    let user = account(tx.db(), &email).await?;
    let link = sessions::links::issue(tx.db(), user.id, now).await?;
    let link = tx.commit(sessions::links::created_change(user.id), link).await?;
    let url = sessions::links::url(&address.browser_url(address.listen, https), &link);
    let expires_at = now.plus(sessions::links::LIFETIME);
    Ok(if json { json!({ "url": url, "expires_at": expires_at }).to_string() } else { url })
}

/// Issues a session for the user with this email address.
pub async fn issue_session(db: &mut PgConnection, email: &Email, now: Timestamp) -> anyhow::Result<IssuedSession> {
    let Account { id, email, .. } = account(db, email).await?;
    Ok(sessions::repo::issue(db, id, email, now).await?)
}

async fn account(db: &mut PgConnection, email: &Email) -> anyhow::Result<Account> {
    accounts::find_by_email(db, email.as_str()).await?.with_context(|| {
        format!("there is no user {email}; create one with 'cloudapi admin bootstrap --email {email} --project NAME'")
    })
}

fn session_json(session: &IssuedSession) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(session)?)
}

async fn find_or_insert_project(
    db: &mut PgConnection,
    owner: UserId,
    name: String,
    now: Timestamp,
) -> anyhow::Result<Project> {
    if let Some(project) = projects::repo::find_owned(db, owner, &name).await? {
        return Ok(project);
    }
    let (call, project) = projects::repo::create(ProjectId::new(), NewProject { name, metadata: None }, now);
    call.execute(db).await?;
    users::repo::insert_member(db, project.id, owner, Role::Owner, MemberStatus::Active, now).await?;
    Ok(project)
}

/// Request context of the operating-system account that runs the command.
pub(super) fn by_operator() -> RequestContext {
    let account = User::from_uid(Uid::current()).ok().flatten();
    RequestContext::operator(account.map(|mut account| {
        text::replace_control_characters(&mut account.name);
        account.name
    }))
}

fn parse_email(text: &str) -> anyhow::Result<Email> {
    text.parse().with_context(|| format!("--email = '{text}' is invalid"))
}

fn read_password(email: &Email) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(4096)
        .read_to_string(&mut text)
        .context("the password could not be read from standard input")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    let password = SecretString::from(password);
    if let Err(unfit) = rules::check(&password, email) {
        bail!("the password on standard input {unfit}");
    }
    Ok(password)
}
