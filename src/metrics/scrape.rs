//! The metrics page, assembled from all sources.

use super::text::{Measured, Page};
use crate::{base::lifecycle::Phase, state::App};

/// Renders the page. Reads a few small files of the kernel, and waits for nothing else.
pub fn page(app: &App) -> String {
    // All sources of metrics; add new ones here.
    let measured: [&dyn Measured; 13] = [
        &Server(app),
        &app.process,
        &*app.requests,
        &app.edge,
        &app.db,
        &*app.node,
        app.limits.lookups(),
        &*app.meter,
        &*app.sealing,
        &*app.hub,
        &app.outbox.figures,
        &app.cloud.figures,
        &app.workers,
    ];
    let mut page = Page::default();
    for measured in measured {
        measured.tell(&mut page);
    }
    page.into_text()
}

/// Version and lifecycle phase of this server.
struct Server<'a>(&'a App);

impl Measured for Server<'_> {
    fn tell(&self, page: &mut Page) {
        page.gauge("cloudapi_build_info", "Always 1. The label has the version.")
            .of(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        let help = "1 while the server serves requests; 0 while it starts or drains.";
        page.gauge("cloudapi_serving", help).is(self.0.lifecycle.phase() == Phase::Serving);
    }
}
