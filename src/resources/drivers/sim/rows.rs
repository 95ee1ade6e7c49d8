//! SQL of the simulated objects. Only this driver uses their table.

use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    base::id::ResourceId,
    resources::{
        drivers::driver::{ListQuery, Order, OwnerFilter},
        kinds::{Kind, Power, spec::Member},
    },
};

/// Simulated object.
#[derive(Debug, sqlx::FromRow)]
pub struct Row {
    pub kind: Kind,
    pub reference: String,
    pub deployment: Option<Uuid>,
    pub resource_id: Option<ResourceId>,
    pub spec: Json<Value>,
    pub power: Option<Power>,
    pub is_ready: bool,
    pub is_going: bool,
    /// CIDR of the object's network.
    pub network: Option<String>,
}

/// Query for objects that are not deleted.
macro_rules! rows {
    ($($rest:literal)+) => {
        concat!(
            "SELECT o.kind, o.reference, o.deployment, o.resource_id, o.spec, o.power, o.ready_at <= now() AS is_ready, \
             o.gone_at IS NOT NULL AS is_going, \
             (SELECT n.spec ->> 'cidr' FROM sim_objects n WHERE n.provider = o.provider AND n.kind = 'network.network' \
              AND n.reference = o.spec ->> 'network') AS network \
             FROM sim_objects o WHERE o.provider = $1 AND (o.gone_at IS NULL OR o.gone_at > now()) ",
            $($rest),+
        )
    };
}

/// Reads an object; `None` if it is deleted.
pub async fn get(db: &mut PgConnection, provider: &str, kind: Kind, reference: &str) -> sqlx::Result<Option<Row>> {
    sqlx::query_as(rows!("AND o.kind = $2 AND o.reference = $3"))
        .bind(provider)
        .bind(kind)
        .bind(reference)
        .fetch_optional(db)
        .await
}

/// Creates the object of `order`, or returns the one that the same order created before.
pub async fn insert(db: &mut PgConnection, provider: &str, order: &Order, latency: Duration) -> sqlx::Result<Row> {
    let kind = order.spec.kind();
    let prefix = match kind {
        Kind::Network => "net",
        Kind::Volume => "vol",
        Kind::Instance => "vm",
    };
    let token = Uuid::from_u128(order.operation.as_u128());
    sqlx::query(
        "INSERT INTO sim_objects (provider, reference, kind, deployment, resource_id, client_token, name, labels, spec, power, ready_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11))
         ON CONFLICT ON CONSTRAINT sim_objects_token_once DO NOTHING",
    )
    .bind(provider)
    .bind(format!("{prefix}-{}", Uuid::new_v4().simple()))
    .bind(kind)
    .bind(order.tags.deployment)
    .bind(order.tags.resource)
    .bind(token)
    .bind(&order.name)
    .bind(Json(&order.labels))
    .bind(Json(order.spec.to_json()))
    .bind(kind.has_power().then_some(Power::On))
    .bind(latency.as_secs_f64())
    .execute(&mut *db)
    .await?;
    sqlx::query_as(rows!("AND o.client_token = $2")).bind(provider).bind(token).fetch_one(db).await
}

/// Changes an object to match `order`; takes effect after `latency`.
pub async fn update(
    db: &mut PgConnection,
    provider: &str,
    reference: &str,
    order: &Order,
    latency: Duration,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE sim_objects SET deployment = $4, resource_id = $5, name = $6, labels = $7,
                ready_at = CASE WHEN spec = $8 THEN ready_at ELSE now() + make_interval(secs => $9) END, spec = $8
         WHERE provider = $1 AND kind = $2 AND reference = $3 AND gone_at IS NULL",
    )
    .bind(provider)
    .bind(order.spec.kind())
    .bind(reference)
    .bind(order.tags.deployment)
    .bind(order.tags.resource)
    .bind(&order.name)
    .bind(Json(&order.labels))
    .bind(Json(order.spec.to_json()))
    .bind(latency.as_secs_f64())
    .execute(db)
    .await
    .map(drop)
}

/// Turns an object on or off. Returns whether it exists.
pub async fn set_power(
    db: &mut PgConnection,
    provider: &str,
    kind: Kind,
    reference: &str,
    power: Power,
    latency: Duration,
) -> sqlx::Result<bool> {
    sqlx::query(
        "UPDATE sim_objects SET power = $4, ready_at = now() + make_interval(secs => $5)
         WHERE provider = $1 AND kind = $2 AND reference = $3 AND gone_at IS NULL",
    )
    .bind(provider)
    .bind(kind)
    .bind(reference)
    .bind(power)
    .bind(latency.as_secs_f64())
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Finds an object that uses this one, which prevents its deletion.
pub async fn find_dependent(
    db: &mut PgConnection,
    provider: &str,
    kind: Kind,
    reference: &str,
) -> sqlx::Result<Option<String>> {
    let member = match kind {
        Kind::Network => Member::Network,
        Kind::Volume => Member::Volumes,
        Kind::Instance => return Ok(None),
    };
    // The operator ? matches a string, or an element of an array.
    sqlx::query_scalar(
        "SELECT reference FROM sim_objects
         WHERE provider = $1 AND kind = 'compute.instance' AND gone_at IS NULL AND spec -> $2 ? $3 LIMIT 1",
    )
    .bind(provider)
    .bind(member.as_str())
    .bind(reference)
    .fetch_optional(db)
    .await
}

/// Deletes an object after `latency`, and prunes objects that were deleted more than a day ago.
pub async fn delete(
    db: &mut PgConnection,
    provider: &str,
    kind: Kind,
    reference: &str,
    latency: Duration,
) -> sqlx::Result<()> {
    sqlx::query(
        "WITH forgotten AS (DELETE FROM sim_objects WHERE gone_at < now() - interval '1 day')
         UPDATE sim_objects SET gone_at = now() + make_interval(secs => $4)
         WHERE provider = $1 AND kind = $2 AND reference = $3 AND gone_at IS NULL",
    )
    .bind(provider)
    .bind(kind)
    .bind(reference)
    .bind(latency.as_secs_f64())
    .execute(db)
    .await
    .map(drop)
}

/// Lists objects, ordered by reference.
pub async fn list(db: &mut PgConnection, provider: &str, query: &ListQuery, limit: i64) -> sqlx::Result<Vec<Row>> {
    macro_rules! list {
        ($owner:literal) => {
            sqlx::query_as(rows!("AND o.kind = $2 AND o.reference > $3 AND " $owner " ORDER BY o.reference LIMIT $4"))
                .bind(provider)
                .bind(query.kind)
                .bind(query.cursor.as_deref().unwrap_or_default())
                .bind(limit)
        };
    }
    let list = match query.owner {
        OwnerFilter::All => list!("o.deployment = $5").bind(query.deployment),
        OwnerFilter::Untagged => list!("o.deployment IS NULL"),
        OwnerFilter::Resource(id) => list!("o.deployment = $5 AND o.resource_id = $6").bind(query.deployment).bind(id),
    };
    list.fetch_all(db).await
}

/// Changes an object like a third party: turns an instance off, or grows a volume.
pub async fn drift(db: &mut PgConnection, provider: &str, row: &mut Row) -> sqlx::Result<()> {
    match row.kind {
        Kind::Network => return Ok(()),
        Kind::Volume => {
            let size = row.spec.0.get("size_gib").and_then(Value::as_u64).unwrap_or(1);
            row.spec.0 = serde_json::json!({ "size_gib": size + 1 });
        }
        Kind::Instance => row.power = Some(Power::Off),
    }
    sqlx::query("UPDATE sim_objects SET spec = $4, power = $5 WHERE provider = $1 AND kind = $2 AND reference = $3")
        .bind(provider)
        .bind(row.kind)
        .bind(&row.reference)
        .bind(&row.spec)
        .bind(row.power)
        .execute(db)
        .await
        .map(drop)
}
