//! The page: everybody who has something to tell, one after the other.

use super::text::{Measured, Page};
use crate::{base::lifecycle::Phase, state::App};

/// The page as it is now. Reads a few small files of the kernel's, and waits for nothing else.
pub fn page(app: &App) -> String {
    // THE list: a new one is added here.
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

/// Which server this is, and how far it has come.
struct Server<'a>(&'a App);

impl Measured for Server<'_> {
    fn tell(&self, page: &mut Page) {
        page.gauge("cloudapi_build_info", "1; which version this is stands in the label.")
            .of(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        let help = "1 while the server serves; 0 while it waits for its database to start, or is told to stop.";
        page.gauge("cloudapi_serving", help).is(self.0.lifecycle.phase() == Phase::Serving);
    }
}
