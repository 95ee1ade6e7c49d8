//! One PostgreSQL for the test process, a template database in it, and a copy of that for each test.

use std::{
    env,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use cloudapi::db::{
    self,
    embedded::{Durability, Options, PrivatePostgres},
};
use nix::sys::statvfs::statvfs;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "template_cloudapi";
/// What the suite needs in memory, in bytes; on a disk it is slower.
const ROOM: u64 = 1 << 30;

struct Cluster {
    postgres: PrivatePostgres,
    /// Held for as long as the process lives.
    _slot: File,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// How to reach a fresh, migrated database.
pub async fn fresh_database() -> PgConnectOptions {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    copy(TEMPLATE, &name).await
}

/// How to reach a fresh database without a table in it.
pub async fn empty_database() -> PgConnectOptions {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    copy("template0", &name).await
}

/// The URL form of `options`, for another process.
pub fn url(options: &PgConnectOptions) -> String {
    options.to_url_lossy().to_string()
}

async fn copy(template: &str, name: &str) -> PgConnectOptions {
    let cluster = CLUSTER.get_or_init(start).await;
    let options = db::options_for_private(cluster.postgres.endpoint());
    let mut admin = PgConnection::connect_with(&options).await.unwrap();
    let version: i32 =
        sqlx::query_scalar("SELECT current_setting('server_version_num')::int").fetch_one(&mut admin).await.unwrap();
    // Copying files is much faster than logging their content, and there since 15.
    let strategy = if version >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    options.database(name)
}

async fn start() -> Cluster {
    let (slot, data_dir) = take_slot(&base());
    // What an earlier run left.
    let _ = fs::remove_dir_all(&data_dir);
    let options = Options {
        data_dir,
        pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from),
        durability: Durability::Volatile,
        max_connections: 200,
    };
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.unwrap().unwrap();
    let options = db::options_for_private(postgres.endpoint());
    let mut admin = PgConnection::connect_with(&options).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"))).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let pool = db::pool(options.database(TEMPLATE), 1);
    db::prepare(&pool).await.unwrap();
    pool.close().await;
    Cluster { postgres, _slot: slot }
}

/// In memory when there is room, else beside the other build products.
fn base() -> PathBuf {
    let mut checkout = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
    let shm = Path::new("/dev/shm");
    let free = statvfs(shm).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    let base = if free >= ROOM {
        shm.join(format!("cloudapi-test-{}-{:x}", nix::unistd::geteuid(), checkout.finish()))
    } else {
        env::temp_dir().join(format!("cloudapi-test-{}-{:x}", nix::unistd::geteuid(), checkout.finish()))
    };
    fs::create_dir_all(&base).unwrap();
    // The user that PostgreSQL runs as has to get in.
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    base
}

/// The first data directory that no other run holds, so that two runs do not collide and what a run
/// leaves behind is cleared by the next.
fn take_slot(base: &Path) -> (File, PathBuf) {
    for slot in 0..100 {
        let lock = File::create(base.join(format!("{slot}.lock"))).unwrap();
        match lock.try_lock() {
            Ok(()) => return (lock, base.join(slot.to_string())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => panic!("{error}"),
        }
    }
    panic!("a hundred runs of this suite are going on in {}", base.display());
}
