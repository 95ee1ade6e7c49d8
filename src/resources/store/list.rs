//! SQL for the lists of resources and operations. Each filter, and each pair of filters, is answered from one index, in
//! the order of the list.

use sqlx::{
    AssertSqlSafe, FromRow, PgConnection, Postgres, postgres::PgArguments, postgres::PgRow, query::QueryAs, types::Json,
};

use super::{operations::operation_columns, resource_columns};
use crate::{
    base::{
        id::{self, Id},
        identity::tenant::Tenant,
        input::page::{Page, PageRequest},
    },
    db::lists::{
        merge::{MAX_ROWS, MergeScan},
        scan::Scan,
    },
    resources::{
        api::{
            input::{OperationFilter, ResourceFilter},
            model::{StoredOperation, StoredResource},
        },
        engine::lifecycle::{OperationStatus, OperationType, Phase},
        kinds::Kind,
    },
};

/// Resources by phase, kind and provider.
const RESOURCES: MergeScan =
    MergeScan { table: "resources", prefix: &[("project_id", "$3")], groups: &["phase", "kind", "provider"], id: "id" };

/// Resources with one label, by class of phase, kind and provider.
const LABELED_RESOURCES: MergeScan = MergeScan {
    table: "resource_labels",
    prefix: &[("project_id", "$3"), ("term", "$9")],
    groups: &["class", "kind", "provider"],
    id: "resource_id",
};

/// Operations by status, type and kind of resource.
const OPERATIONS: MergeScan = MergeScan {
    table: "operations",
    prefix: &[("project_id", "$3")],
    groups: &["status", "type", "resource_kind"],
    id: "id",
};

/// Operations on one resource by status and type.
const OPERATIONS_OF_RESOURCE: MergeScan =
    MergeScan { table: "operations", prefix: &[("resource_id", "$7")], groups: &["status", "type"], id: "id" };

/// Lists the tenant's resources of some kinds.
pub async fn resources(
    db: &mut PgConnection,
    tenant: Tenant,
    kinds: &[Kind],
    filter: &ResourceFilter,
    page: &PageRequest<id::Resource>,
) -> sqlx::Result<Page<StoredResource, id::Resource>> {
    let is_unfiltered = filter.provider.is_none() && filter.phase.is_none() && filter.label.is_none();
    if is_unfiltered && kinds.len() == Kind::ALL.len() {
        return live_resources(db, tenant, page).await;
    }
    let phases: Vec<&str> = match filter.phase {
        Some(phase) => vec![phase.as_str()],
        None => Phase::ALL.iter().filter(|phase| **phase != Phase::Deleted).map(|phase| phase.as_str()).collect(),
    };
    let (pairs, keys) = filter.labels();
    let mut terms = pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    // Few resources of a project are in a transitional phase, so the phase comes before the label.
    let is_settled = filter.phase.is_none_or(|phase| matches!(phase, Phase::Active | Phase::Failed | Phase::Deleted));
    let term = terms.next().or_else(|| keys.first().cloned()).filter(|_| is_settled);
    let (scan, condition) = match term {
        Some(_) => (LABELED_RESOURCES, "g.class IN (SELECT phase_class(p.phase) FROM unnest($5::text[]) AS p (phase))"),
        None => (RESOURCES, "g.phase = ANY ($5)"),
    };
    let condition = format!("{condition} AND g.kind = ANY ($4) AND $8 IN ('', g.provider)");
    let sql = scan.page(page.order, &condition)
        + concat!(
            "SELECT ",
            resource_columns!(""),
            ", position, is_match FROM page CROSS JOIN LATERAL (SELECT ",
            resource_columns!(""),
            ", phase = ANY ($5) AND labels @> $6 AND labels ?& $7 AS is_match
              FROM resources WHERE id = page.item OFFSET 0) looked
             WHERE is_match OR position = $2 ORDER BY position"
        );
    let kinds = texts(kinds, Kind::as_str);
    scan_page(
        db,
        page,
        &sql,
        |resource: &StoredResource| resource.id,
        |query| {
            let query = query.bind(tenant.project_id()).bind(&kinds).bind(&phases).bind(Json(&pairs)).bind(&keys);
            let query = query.bind(filter.provider.as_deref().unwrap_or_default());
            match &term {
                Some(term) => query.bind(term),
                None => query,
            }
        },
    )
    .await
}

/// Lists the tenant's resources that are not deleted.
async fn live_resources(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Resource>,
) -> sqlx::Result<Page<StoredResource, id::Resource>> {
    let scan = Scan {
        table: "resources",
        columns: resource_columns!(""),
        key: &[("project_id", "$3")],
        partial: " AND phase <> 'deleted'",
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| query.bind(tenant.project_id())).await
}

/// Lists the tenant's operations on resources of some kinds.
pub async fn operations(
    db: &mut PgConnection,
    tenant: Tenant,
    kinds: &[Kind],
    filter: &OperationFilter,
    page: &PageRequest<id::Operation>,
) -> sqlx::Result<Page<StoredOperation, id::Operation>> {
    let (scan, condition) = match filter.resource_id {
        Some(_) => (
            OPERATIONS_OF_RESOURCE,
            "EXISTS (SELECT FROM resources WHERE id = $7 AND project_id = $3 AND kind = ANY ($6))",
        ),
        None => (OPERATIONS, "g.resource_kind = ANY ($6)"),
    };
    let condition = format!("g.status = ANY ($4) AND g.type = ANY ($5) AND {condition}");
    let sql = scan.page(page.order, &condition)
        + concat!(
            "SELECT ",
            operation_columns!(""),
            ", position, true AS is_match FROM page CROSS JOIN LATERAL (SELECT ",
            operation_columns!(""),
            " FROM operations WHERE id = page.item OFFSET 0) looked ORDER BY position"
        );
    let statuses = wanted(filter.status, OperationStatus::ALL, OperationStatus::as_str);
    let types = wanted(filter.kind, OperationType::ALL, OperationType::as_str);
    let kinds = texts(kinds, Kind::as_str);
    scan_page(
        db,
        page,
        &sql,
        |operation: &StoredOperation| operation.id,
        |query| {
            let query = query.bind(tenant.project_id()).bind(&statuses).bind(&types).bind(&kinds);
            match filter.resource_id {
                Some(resource) => query.bind(resource),
                None => query,
            }
        },
    )
    .await
}

fn texts<T: Copy>(values: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    values.iter().map(|value| text(*value)).collect()
}

/// The values that match a filter: the given one, or all.
fn wanted<T: Copy>(given: Option<T>, all: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    given.map_or_else(|| texts(all, &text), |given| vec![text(given)])
}

/// Row that a scan has looked at.
#[derive(FromRow)]
struct ScannedRow<T> {
    #[sqlx(flatten)]
    item: T,
    /// Position in the scan, from 1.
    position: i64,
    /// Whether the row matches the filters that the index does not have.
    is_match: bool,
}

type ScanQuery<'q, T> = QueryAs<'q, Postgres, ScannedRow<T>, PgArguments>;

/// Reads a page. Usually all rows match; otherwise scans increasingly many. After [`MAX_ROWS`], the page ends before it
/// is full.
async fn scan_page<'q, T, K>(
    db: &mut PgConnection,
    page: &PageRequest<K>,
    sql: &'q str,
    id: impl Fn(&T) -> Id<K>,
    bind: impl Fn(ScanQuery<'q, T>) -> ScanQuery<'q, T>,
) -> sqlx::Result<Page<T, K>>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    K: id::Kind,
{
    let full = usize::try_from(page.rows()).unwrap_or(usize::MAX);
    let (mut items, mut after, mut rows, mut remaining) = (Vec::new(), page.after, page.rows(), MAX_ROWS);
    loop {
        // The SQL has only names of tables and columns, and numbers of parameters, nothing from outside.
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(after).bind(rows);
        let scanned: Vec<ScannedRow<T>> = bind(query).fetch_all(&mut *db).await?;
        let last = scanned.last().filter(|last| last.position == rows).map(|last| id(&last.item));
        items.extend(scanned.into_iter().filter(|row| row.is_match).map(|row| row.item));
        remaining -= rows;
        match last {
            Some(next) if items.len() < full && remaining == 0 => return Ok(Page::scanned(items, Some(next))),
            Some(next) if items.len() < full => {
                after = next;
                rows = (rows * 4).min(remaining);
            }
            _ => break,
        }
    }
    items.truncate(full);
    Ok(page.page(items, id))
}
