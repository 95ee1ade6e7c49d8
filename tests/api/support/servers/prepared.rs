//! A private PostgreSQL with the schema and without data. It is created once and then copied, because initdb and the
//! migrations take longer than most tests.

use std::{env, fs, path::Path, process::Command, sync::LazyLock, thread};

use cloudapi::db::{
    self,
    embedded::{Durability, Options, PrivatePostgres},
};
use tokio::runtime;

use super::slot::Slot;

static TEMPLATE: LazyLock<Slot> = LazyLock::new(|| thread::spawn(create).join().expect("a template"));

/// Makes `data_dir` the data directory of a deployment that has been started before. Blocks.
pub fn install(data_dir: &Path) {
    fs::create_dir_all(data_dir).unwrap();
    // The files belong to the user that runs PostgreSQL.
    let copied = Command::new("cp").arg("-Rp").arg(TEMPLATE.folder.join("postgres")).arg(data_dir).status().unwrap();
    assert!(copied.success(), "{copied}");
}

fn create() -> Slot {
    let slot = Slot::acquire("template");
    let options = Options {
        data_dir: slot.folder.clone(),
        pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(Into::into),
        durability: Durability::Volatile,
        max_connections: 10,
    };
    let postgres = PrivatePostgres::start(options).unwrap();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = db::pool(db::options_for_private(postgres.endpoint()), 1);
        db::prepare(&pool).await.unwrap();
        pool.close().await;
    });
    postgres.stop().unwrap();
    slot
}
