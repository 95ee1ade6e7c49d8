//! What the database answers with, and what clients, workers and `/readyz` make of it.

mod columns;
mod disk;
mod errcodes;
mod outcome;
mod sqlstates;
mod standby;

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::support::TestApp;

/// One connection to the server's database that is not one of the server's own.
async fn admin(app: &TestApp) -> PgPool {
    let options = app.db.connect_options().as_ref().clone().application_name("admin");
    PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}
