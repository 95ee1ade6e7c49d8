//! `cloudapi serve`.

use std::{io, time::Duration};

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{
    database::{self, SERVER_CONNECTIONS},
    demo, welcome,
};
use crate::{
    base::{clock::Clock, lifecycle::Phase},
    config::{ServeSettings, Settings},
    db::{self, PrepareError},
    server,
    state::{App, AppOptions},
};

/// How long to wait before looking again for a database that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Serves until told to stop.
pub async fn run(settings: Settings, serve: ServeSettings) -> anyhow::Result<()> {
    // Before anything is started, so that nothing is left behind by a signal in between.
    let stop = stop_on_signals().context("signal handlers could not be installed")?;
    warn_of_unused(&serve);
    // Before PostgreSQL is started, because this is what most often goes wrong.
    let listener = TcpListener::bind(serve.listen).await.with_context(|| {
        format!("CLOUDAPI_LISTEN (--listen) = {} cannot be served on; choose another address or port", serve.listen)
    })?;
    let address = listener.local_addr().context("the address served on is unknown")?;
    let url = serve.public_url.clone().unwrap_or_else(|| format!("http://{address}"));

    match &settings.database_url {
        Some(given) => {
            let app = app(database::given(given)?, &url, &serve)?;
            welcome::listening(&url)?;
            serve_app(app, listener, stop, async |_| Ok(()), async |_| Ok(())).await
        }
        None => {
            let private = database::start_private(&settings).await?;
            let app = app(db::options_for_private(private.endpoint()), &url, &serve)?;
            let (with_demo, first_start) = (!serve.no_demo, private.is_new());
            let load = async |app: &App| if with_demo { demo::load_if_empty(app).await } else { Ok(()) };
            let greet = async |app: &App| welcome::ready(app, &url, first_start).await;
            let served_out = CancellationToken::new();
            let keeping = tokio::spawn(database::keep_private(private, served_out.clone()));
            let served = serve_app(app, listener, stop, load, greet).await;
            served_out.cancel();
            let private = keeping.await.context("the watch over PostgreSQL panicked")??;
            let stopped = database::stop_private(private).await;
            served.and(stopped)
        }
    }
}

fn app(database: PgConnectOptions, url: &str, serve: &ServeSettings) -> anyhow::Result<App> {
    let options = AppOptions {
        public_url: url.to_owned(),
        trusted_proxies: serve.trusted_proxies.clone(),
        limits: serve.limits(),
    };
    App::new(db::pool(database, SERVER_CONNECTIONS), Clock::system(), options).context("the server cannot start")
}

/// Serves at once and prepares the database beside, so that a server that starts before its database
/// says so on `/readyz` and heals by itself. `load` comes before the first request, `greet` after the
/// server is ready.
async fn serve_app(
    app: App,
    listener: TcpListener,
    stop: CancellationToken,
    load: impl AsyncFnOnce(&App) -> anyhow::Result<()>,
    greet: impl AsyncFnOnce(&App) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let serving = tokio::spawn(server::serve(app.clone(), listener, stop.clone()));
    let prepared = async {
        prepare(&app).await?;
        load(&app).await?;
        app.lifecycle.enter(Phase::Serving);
        tracing::info!("ready");
        greet(&app).await
    };
    let outcome = match stop.run_until_cancelled(prepared).await {
        // Stopping has closed the database under it.
        Some(Err(_)) if stop.is_cancelled() => Ok(()),
        // A server that cannot become ready stops, rather than wait to be noticed.
        Some(Err(error)) => {
            stop.cancel();
            Err(error)
        }
        Some(Ok(())) | None => Ok(()),
    };
    serving.await.context("the server panicked")?;
    outcome
}

async fn prepare(app: &App) -> Result<(), PrepareError> {
    loop {
        match db::prepare(&app.db).await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "not ready; trying again");
                app.lifecycle.enter(Phase::Starting("the database does not answer".into()));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

fn warn_of_unused(serve: &ServeSettings) {
    if serve.secret_key_file.is_some() {
        tracing::warn!("CLOUDAPI_SECRET_KEY_FILE is set, but this version seals nothing yet");
    }
}

fn stop_on_signals() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted; finishing what is under way"),
            _ = terminate.recv() => tracing::info!("told to stop; finishing what is under way"),
        }
        stopping.cancel();
    });
    Ok(stop)
}
