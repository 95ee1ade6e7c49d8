//! Renders the metrics page from all sources. [`super::metrics`] serves it.

use crate::{
    base::runtime::lifecycle::Phase,
    metrics::exposition::{Collector, Exposition},
    server::state::App,
};

/// Renders the page. Reads a few small files of the kernel, and waits for nothing else.
pub fn render(app: &App) -> String {
    // All sources of metrics; add new ones here.
    let collectors: &[&dyn Collector] = &[
        &Server(app),
        &app.process,
        &*app.requests,
        &app.edge,
        &app.store.db,
        &*app.node,
        app.limits.lookups(),
        &*app.meter,
        &*app.sealing,
        &*app.events.hub,
        &app.webhooks.outbox.metrics,
        &app.resources.cloud.metrics,
        &app.workers,
    ];
    let mut out = Exposition::default();
    for collector in collectors {
        collector.collect(&mut out);
    }
    out.into_text()
}

/// Version and lifecycle phase of this server.
struct Server<'a>(&'a App);

impl Collector for Server<'_> {
    fn collect(&self, out: &mut Exposition) {
        out.gauge("cloudapi_build_info", "Always 1. The label has the version.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        let help = "1 while the server serves requests; 0 while it starts or drains.";
        out.gauge("cloudapi_serving", help).value(self.0.lifecycle.phase() == Phase::Serving);
    }
}
