//! `cloudapi serve`.

use std::{io, time::Duration};

use anyhow::Context;
use axum::http::HeaderValue;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServerTiming,
    database::{self, SERVER_CONNECTIONS},
    quick_start::{demo, welcome},
    server_key,
    support::command_error::CommandError,
};
use crate::{
    api::{
        events::hub::StreamOptions,
        usage::counting::{flush, meter::MeterOptions},
        webhooks::outbox::WebhookOptions,
    },
    base::runtime::{clock::Clock, lifecycle::Phase},
    db::{self, PrepareError},
    http::layers::edge::{EdgeLimits, EdgeOptions},
    resources::{
        cloud::CloudOptions,
        drivers::config::{self, ProviderSettings, default_providers},
    },
    server::{
        self, Listener, Shutdown,
        config::{EdgeSettings, METRICS_LISTEN, MetricsListen, ServeSettings, Settings, Switch, redaction},
        connections::{file_limit, tls::Tls},
        metrics,
        state::{App, AppOptions},
    },
};

/// Pause between attempts to prepare an unavailable database.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Serves until a stop signal arrives.
pub async fn run(settings: Settings, serve: ServeSettings, timing: ServerTiming) -> anyhow::Result<()> {
    // Before anything is started, so that a signal in between leaves nothing behind.
    let stop = stop_on_signals(serve.edge.drain_delay_seconds).context("signal handlers could not be installed")?;
    let tls = Tls::from_settings(serve.edge.tls_cert.as_deref(), serve.edge.tls_key.as_deref())
        .map_err(|error| CommandError::cannot_run(error.into()))?;
    if let Some(tls) = &tls {
        reload_on_hangup(tls.clone()).context("signal handlers could not be installed")?;
    }
    // Before PostgreSQL is started, because binding fails most often.
    let tcp = TcpListener::bind(serve.address.listen).await.with_context(|| {
        format!("CLOUDAPI_LISTEN (--listen) = {} cannot be bound; choose another address or port", serve.address.listen)
    })?;
    let metrics = listen_for_metrics(serve.metrics_listen).await?;
    let address = tcp.local_addr().context("the listening address is unknown")?;
    let url = serve.address.url(address, tls.is_some());
    let console_url = serve.address.browser_url(address, tls.is_some());
    let ServerTiming { clock, pace, cloud } = timing;
    let mut options = app_options(&serve, &settings, &url, tls.is_some())?;
    options.webhooks.policy = pace;
    options.cloud.timing = cloud;
    let listeners = (Listener { tcp, tls }, metrics);

    match &settings.database_url {
        Some(database_url) => {
            let app = app(database::options(database_url)?, clock, options)?;
            let greet = async |_: &App| {
                welcome::print_listening(&url);
                Ok(())
            };
            serve_app(app, listeners, stop, async |_| Ok(()), greet).await
        }
        None => {
            welcome::print_starting(&settings.data_dir());
            let private = database::start_private(&settings).await?;
            let app = app(db::options_for_private(private.endpoint()), clock, options)?;
            let (with_demo, first_start) = (!serve.no_demo, private.is_new());
            let load = async |app: &App| if with_demo { demo::load_if_empty(app).await } else { Ok(()) };
            let greet = async |app: &App| welcome::print_ready(app, &url, &console_url, first_start).await;
            let served_out = CancellationToken::new();
            let supervising = tokio::spawn(database::supervise_private(private, served_out.clone()));
            let served = serve_app(app, listeners, stop, load, greet).await;
            served_out.cancel();
            let private = supervising.await.context("the supervision of PostgreSQL panicked")??;
            let stopped = database::stop_private(private).await;
            served.and(stopped)
        }
    }
}

/// Opens the metrics listener, unless metrics are off. An address that the operator set must be available; the default
/// address is optional, so that a second server can start on the same machine.
async fn listen_for_metrics(configured: Option<MetricsListen>) -> anyhow::Result<Option<TcpListener>> {
    let address = match configured {
        Some(MetricsListen::Off) => return Ok(None),
        Some(MetricsListen::On(address)) => address,
        None => METRICS_LISTEN,
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let address = listener.local_addr().context("the listening address for metrics is unknown")?;
            tracing::info!("metrics are at http://{address}/metrics");
            Ok(Some(listener))
        }
        Err(error) if configured.is_none() => {
            tracing::warn!(
                %error,
                "metrics are not served, because {address} is unavailable; set CLOUDAPI_METRICS_LISTEN (--metrics-listen) to another address, or to off"
            );
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| {
            format!("CLOUDAPI_METRICS_LISTEN (--metrics-listen) = {address} cannot be bound; choose another address or port, or off")
        }),
    }
}

fn edge_options(edge: &EdgeSettings, https: bool) -> EdgeOptions {
    EdgeOptions {
        limits: EdgeLimits {
            head_timeout: edge.head_timeout_seconds,
            body_timeout: edge.body_timeout_seconds,
            idle_timeout: edge.idle_timeout_seconds,
            max_connections: file_limit::raise_file_limit(edge.max_connections),
            max_requests: edge.max_requests,
            ..EdgeLimits::default()
        },
        // Origins were validated with the settings.
        cors_origins: edge.cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect(),
        https,
    }
}

fn app_options(
    serve: &ServeSettings,
    settings: &Settings,
    public_url: &str,
    has_tls: bool,
) -> anyhow::Result<AppOptions> {
    Ok(AppOptions {
        public_url: public_url.to_owned(),
        trusted_proxies: serve.trusted_proxies.clone(),
        limits: serve.limits(),
        edge: edge_options(&serve.edge, has_tls || public_url.starts_with("https://")),
        auth_cache: serve.auth_cache == Switch::On,
        server_key: server_key::load(settings).map_err(CommandError::cannot_run)?,
        meter: MeterOptions { folder: Some(settings.data_dir().join("usage")), ..MeterOptions::default() },
        usage_retention_days: serve.usage_days,
        streams: StreamOptions { max_streams: serve.edge.max_streams, ..StreamOptions::default() },
        webhooks: WebhookOptions { allowed: serve.webhook_allow.clone(), ..WebhookOptions::default() },
        cloud: CloudOptions { providers: providers(serve)?, ..CloudOptions::default() },
        audit_retention_months: serve.audit_months,
        ..AppOptions::default()
    })
}

fn providers(serve: &ServeSettings) -> anyhow::Result<Vec<ProviderSettings>> {
    let Some(file) = &serve.providers else { return Ok(default_providers()) };
    config::read(file)
        .with_context(|| format!("CLOUDAPI_PROVIDERS (--providers){} cannot be used", redaction::display_path(file)))
        .map_err(CommandError::cannot_run)
}

fn app(database: PgConnectOptions, clock: Clock, options: AppOptions) -> anyhow::Result<App> {
    App::new(db::pool(database, SERVER_CONNECTIONS), clock, options).context("the server cannot start")
}

/// Serves immediately and prepares the database concurrently, so that a server that starts before its database reports
/// the reason on `/readyz` and recovers without a restart. `load` runs before the first request, `greet` when the
/// server is ready.
async fn serve_app(
    app: App,
    (listener, metrics): (Listener, Option<TcpListener>),
    stop: Shutdown,
    load: impl AsyncFnOnce(&App) -> anyhow::Result<()>,
    greet: impl AsyncFnOnce(&App) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let serving = tokio::spawn(server::serve(app.clone(), listener, stop.clone()));
    let served_out = Shutdown::default();
    let serving_metrics = metrics.map(|metrics| tokio::spawn(metrics::serve(app.clone(), metrics, served_out.clone())));
    let prepared = async {
        prepare(&app).await?;
        flush::open(&app.meter, &app.store.db, &app.store.clock).await?;
        load(&app).await?;
        app.lifecycle.enter(Phase::Serving);
        tracing::info!("ready");
        greet(&app).await
    };
    let outcome = match stop.unready.run_until_cancelled(prepared).await {
        // Stopping has closed the database pool during preparation.
        Some(Err(_)) if stop.unready.is_cancelled() => Ok(()),
        // A server that cannot become ready exits instead of waiting for somebody to notice.
        Some(Err(error)) => {
            stop.closing.cancel();
            Err(error)
        }
        Some(Ok(())) | None => Ok(()),
    };
    serving.await.context("the server panicked")?;
    // Metrics are served until the end, so that the drain can be observed.
    served_out.closing.cancel();
    if let Some(serving_metrics) = serving_metrics {
        serving_metrics.await.context("the metrics listener panicked")?;
    }
    outcome
}

/// Prepares the database, and retries while the error is transient. Each new reason is reported once.
async fn prepare(app: &App) -> Result<(), PrepareError> {
    let mut reported = None;
    loop {
        let prepared = async {
            db::prepare(&app.store.db).await?;
            db::ensure_server_key(&app.store.db, &app.server_key).await
        };
        match prepared.await {
            Err(error) if error.is_transient() => {
                let reason = error.to_string();
                if reported.as_ref() != Some(&reason) {
                    tracing::warn!(%error, "not ready; retrying");
                    welcome::print_waiting(&app.public_url, &reason);
                    reported = Some(reason);
                }
                app.lifecycle.enter(Phase::Starting(error.summary().into()));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Handles SIGTERM and SIGINT. After SIGTERM, which service managers send, load balancers get `delay` to remove the
/// server; SIGINT comes from a terminal and has no delay. A second signal aborts requests in flight immediately.
fn stop_on_signals(delay: Duration) -> io::Result<Shutdown> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = Shutdown::default();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let delay = tokio::select! {
            _ = interrupt.recv() => Duration::ZERO,
            _ = terminate.recv() => delay,
        };
        tracing::info!("shutdown started; finishing requests in flight");
        stopping.unready.cancel();
        let second_signal = async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        let closing = async {
            tokio::time::sleep(delay).await;
            stopping.closing.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = second_signal => {}, () = closing => {} }
        tracing::warn!("shutdown forced; aborting requests in flight");
        stopping.abort.cancel();
    });
    Ok(stop)
}

/// Reloads the TLS certificate on SIGHUP, without a restart.
fn reload_on_hangup(tls: Tls) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => tracing::info!("TLS certificate reloaded; new connections use it"),
                Err(error) => {
                    tracing::error!(%error, "TLS certificate reload failed; the current certificate stays in use");
                }
            }
        }
    });
    Ok(())
}
