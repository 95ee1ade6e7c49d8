//! SQL for the lists of resources and operations. Each filter, and each pair of filters, is answered from one index, in
//! the order of the list.

use sqlx::{PgConnection, types::Json};

use super::{operations::operation_columns, resource_columns};
use crate::{
    base::{
        id::{self, ResourceId},
        identity::tenant::Tenant,
        input::page::{Page, PageRequest},
    },
    db::lists::scan::Scan,
    resources::{
        api::{
            input::{OperationFilter, ResourceFilter},
            model::{StoredOperation, StoredResource},
        },
        engine::lifecycle::{OperationStatus, OperationType, Phase},
        kinds::Kind,
    },
};

/// Looks up the item of a scanned row `s`.
macro_rules! lookup {
    ($columns:ident, $from:literal) => {
        concat!("CROSS JOIN LATERAL (SELECT ", $columns!(""), " FROM ", $from, " OFFSET 0) AS e")
    };
}

/// Resources by phase, kind and provider.
const RESOURCES: Scan<'_> = Scan {
    table: "resources",
    columns: "project_id, phase, kind, provider, id",
    key: &[("project_id", "$3")],
    merged: &["phase", "kind", "provider"],
    lookup: lookup!(resource_columns, "resources WHERE id = s.id"),
    item: resource_columns!("e."),
    max_rows: 1_000,
    ..Scan::DEFAULT
};

/// Resources with one label, by class of phase, kind and provider.
const LABELED_RESOURCES: Scan<'_> = Scan {
    table: "resource_labels",
    columns: "project_id, term, class, kind, provider, resource_id",
    key: &[("project_id", "$3"), ("term", "$9")],
    id: "resource_id",
    merged: &["class", "kind", "provider"],
    lookup: lookup!(resource_columns, "resources WHERE id = s.resource_id"),
    ..RESOURCES
};

/// Resources that refer to another one.
const REFERRING_RESOURCES: Scan<'_> = Scan {
    table: "resource_references",
    columns: "to_id, from_id",
    key: &[("to_id", "$9")],
    id: "from_id",
    merged: &[],
    lookup: lookup!(resource_columns, "resources WHERE id = s.from_id"),
    item: resource_columns!("e."),
    max_rows: 1_000,
    ..Scan::DEFAULT
};

/// Operations by status, type and kind of resource.
const OPERATIONS: Scan<'_> = Scan {
    table: "operations",
    columns: "project_id, status, type, resource_kind, id",
    key: &[("project_id", "$3")],
    merged: &["status", "type", "resource_kind"],
    lookup: lookup!(operation_columns, "operations WHERE id = s.id"),
    item: operation_columns!("e."),
    ..Scan::DEFAULT
};

/// Operations on one resource by status and type.
const OPERATIONS_OF_RESOURCE: Scan<'_> = Scan {
    columns: "resource_id, status, type, id",
    key: &[("resource_id", "$7")],
    merged: &["status", "type"],
    ..OPERATIONS
};

/// Lists the tenant's resources of some kinds.
pub async fn resources(
    db: &mut PgConnection,
    tenant: Tenant,
    kinds: &[Kind],
    filter: &ResourceFilter,
    page: &PageRequest<id::Resource>,
) -> sqlx::Result<Page<StoredResource, id::Resource>> {
    let is_unfiltered =
        filter.provider.is_none() && filter.phase.is_none() && filter.label.is_none() && filter.refers_to.is_none();
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
    let labels_and_phase = "e.phase = ANY ($5) AND e.labels @> $6 AND e.labels ?& $7";
    let all = format!("{labels_and_phase} AND e.project_id = $3 AND e.kind = ANY ($4) AND $8 IN ('', e.provider)");
    let scan = match filter.refers_to {
        // Few resources refer to one, so the rest is compared.
        Some(_) => Scan { filter: &all, ..REFERRING_RESOURCES },
        None => Scan { groups: &condition, filter: labels_and_phase, ..scan },
    };
    let kinds = texts(kinds, Kind::as_str);
    scan.page(db, page, |query| {
        let query = query.bind(tenant.project_id()).bind(&kinds).bind(&phases).bind(Json(&pairs)).bind(&keys);
        let query = query.bind(filter.provider.as_deref().unwrap_or_default());
        match (filter.refers_to, &term) {
            (Some(resource), _) => query.bind(resource),
            (None, Some(term)) => query.bind(term),
            (None, None) => query,
        }
    })
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

/// Maximum number of resources in [`with_conditions`].
const MAX_WITH_CONDITIONS: i64 = 10;

/// The newest resources of the tenant that have a condition.
pub async fn with_conditions(
    db: &mut PgConnection,
    tenant: Tenant,
    kinds: &[Kind],
) -> sqlx::Result<Vec<StoredResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        " FROM (SELECT ",
        resource_columns!(""),
        " FROM resources
           WHERE (project_id, created_at, id) < ($1, 'infinity', $2) AND conditions <> '[]' AND phase <> 'deleted'
           ORDER BY project_id DESC, created_at DESC, id DESC LIMIT 100) AS r
         WHERE project_id = $1 AND kind = ANY ($3) ORDER BY created_at DESC, id DESC LIMIT $4"
    ))
    .bind(tenant.project_id())
    .bind(ResourceId::LAST)
    .bind(texts(kinds, Kind::as_str))
    .bind(MAX_WITH_CONDITIONS)
    .fetch_all(db)
    .await
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
    let scan = Scan { groups: &condition, ..scan };
    let statuses = wanted(filter.status, OperationStatus::ALL, OperationStatus::as_str);
    let types = wanted(filter.kind, OperationType::ALL, OperationType::as_str);
    let kinds = texts(kinds, Kind::as_str);
    scan.page(db, page, |query| {
        let query = query.bind(tenant.project_id()).bind(&statuses).bind(&types).bind(&kinds);
        match filter.resource_id {
            Some(resource) => query.bind(resource),
            None => query,
        }
    })
    .await
}

fn texts<T: Copy>(values: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    values.iter().map(|value| text(*value)).collect()
}

/// The values that match a filter: the given one, or all.
fn wanted<T: Copy>(given: Option<T>, all: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    given.map_or_else(|| texts(all, &text), |given| vec![text(given)])
}
