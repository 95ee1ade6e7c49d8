//! The console: a web page for people, at `/console`, and the first client of `/v1`.
//!
//! ```text
//! browser → browser::enter (transport, origin, cookie, form) → pages::<page> → client → the layers of the server → /v1
//!                    ↓
//!                view (layout, problems, headers)
//! ```
//!
//! Pages call the real router of the API in the same process ([`client`]). The console has no SQL, no privileges and no
//! rules of its own, so authorization, idempotency, audit and limits hold for it as for any client. The secret of the
//! browser session travels as a request extension, which only the console can set.
//!
//! - [`browser`]: what is between the browser and a page: transport, origin of writes, session cookie, headers.
//! - [`client`]: calls of `/v1`.
//! - [`forms`]: fields of a form, and the errors of the API at their fields.
//! - [`components`]: parts of pages.
//! - [`view`]: the layout, and pages for problems.
//! - [`pages`]: one folder for each page, and the table of pages.
//! - [`assets`]: the files that pages load.

pub mod assets;
pub mod browser;
pub mod client;
pub mod components;
pub mod forms;
pub mod pages;
pub mod view;

use std::{ops::Deref, sync::Arc};

use axum::{Router, http::StatusCode, middleware, routing::any};

use crate::{base::runtime::clock::Clock, http::PublicUrl, metrics::requests::RouteInfo};
use browser::shown::ShownSecrets;
use client::V1;
use view::Failure;

/// The console. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Console(Arc<Shared>);

/// Content of [`Console`].
#[derive(Debug)]
pub struct Shared {
    /// The API, with all layers.
    pub v1: V1,
    /// Clock.
    pub clock: Clock,
    /// URL where clients reach this server.
    pub public_url: PublicUrl,
    /// Whether clients reach the server only over https.
    pub https: bool,
    /// Index of the first page among the routes of the server, for metrics.
    pub first_route: usize,
    /// Which responses with a secret were shown.
    pub shown: ShownSecrets,
}

impl Console {
    /// Creates the console on the API `v1`. The server has `routes` other routes.
    pub fn new(v1: V1, clock: Clock, public_url: PublicUrl, https: bool, routes: usize) -> Self {
        let shown = ShownSecrets::default();
        Self(Arc::new(Shared { v1, clock, public_url, https, first_route: routes, shown }))
    }

    /// Builds the router of all pages and of the files that they load.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let mut router = Router::new();
        for page in pages::TABLE {
            router = router.route(page.path, (page.routes)());
        }
        // Other addresses below the console are pages, too, that say so.
        let nothing = || any(async || Failure::NoPage(StatusCode::NOT_FOUND));
        router = router.route("/console/", nothing()).route("/console/{*rest}", nothing());
        let pages = router.layer(middleware::from_fn_with_state(self.clone(), browser::enter)).with_state(self);
        pages.merge(assets::router())
    }
}

impl Deref for Console {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Routes of the console, for metrics: two for each page, in the order of the table.
pub fn routes() -> impl Iterator<Item = RouteInfo> {
    pages::TABLE
        .iter()
        .flat_map(|page| pages::METHODS.map(|(method, status)| RouteInfo { method, template: page.path, status }))
}
