//! Database errors, and how requests, workers and `/readyz` handle them.

mod columns;
mod disk;
mod errcodes;
mod outcome;
mod plans;
mod sqlstates;
mod standby;

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::support::TestApp;

/// A separate connection to the server's database, outside the server's pool.
async fn admin(app: &TestApp) -> PgPool {
    let options = app.db.connect_options().as_ref().clone().application_name("admin");
    PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}
