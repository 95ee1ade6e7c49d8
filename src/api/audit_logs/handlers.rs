//! Handlers of `/v1/audit-logs`.

use std::sync::Arc;

use axum::{extract::State, http::Method};

use super::{
    export::{Export, Exporter},
    stream::ExportResponse,
};
use crate::{
    api::audit_logs::AuditContext,
    audit::{
        names, read_counts,
        trail::{self, Filter},
        view::{Checkpoint, Entry, EntryFilter, ExportQuery},
    },
    auth::grant::Grant,
    base::{
        action::Action,
        error::{Error, Result},
        id,
        identity::scope::of::AuditRead,
        input::page::{ListQuery, Page, ProjectIdFilter},
    },
    http::{
        request::extract::{PathId, Query},
        response::{List, WithEtag},
    },
};

/// Lists the project's entries and records the read.
pub async fn list(
    grant: Grant<AuditRead>,
    State(context): State<Arc<AuditContext>>,
    Query(query): Query<ListQuery<EntryFilter>>,
) -> Result<List<Entry>> {
    let page = query.page()?;
    let filters = &query.filter;
    filters.check()?;
    let filter = Filter {
        from: filters.from,
        to: filters.to,
        actor: filters.actor.as_deref(),
        action: filters.action,
        target: filters.target.as_deref(),
    };
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, filters.project_id.as_deref()).await?;
    context.reads.record(&mut db, grant.request(), tenant.project_id(), context.clock.now()).await?;
    context.db.pulse().notify_staged();
    let Page { items, next } = trail::list(&mut db, tenant, &filter, &page).await?;
    let mut items: Vec<_> = items.into_iter().map(Entry::from_stored).collect::<Result<_>>()?;
    names::resolve(&mut db, &mut items).await?;
    Ok(List::new(Page { items, next }, grant.request().id))
}

/// Returns an entry and records the read.
pub async fn get(
    grant: Grant<AuditRead>,
    State(context): State<Arc<AuditContext>>,
    PathId(id): PathId<id::Audit>,
) -> Result<WithEtag<Entry>> {
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let stored = trail::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    context.reads.record(&mut db, grant.request(), tenant.project_id(), context.clock.now()).await?;
    context.db.pulse().notify_staged();
    let mut entry = [Entry::from_stored(stored)?];
    names::resolve(&mut db, &mut entry).await?;
    let [entry] = entry;
    Ok(WithEtag(entry))
}

/// Lists the checkpoints of the project's chain. Checkpoints contain no personal data, so reading them is not recorded.
pub async fn checkpoints(
    grant: Grant<AuditRead>,
    State(context): State<Arc<AuditContext>>,
    Query(query): Query<ListQuery<ProjectIdFilter>>,
) -> Result<List<Checkpoint>> {
    let page = query.page()?;
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = trail::checkpoints(&mut db, tenant, &page).await?;
    Ok(List::new(page.map(Checkpoint::from_stored), grant.request().id))
}

/// Exports the project's whole trail and records the export.
pub async fn export(
    grant: Grant<AuditRead>,
    State(context): State<Arc<AuditContext>>,
    method: Method,
    Query(query): Query<ExportQuery>,
) -> Result<ExportResponse> {
    let format = query.format.unwrap_or_default();
    let mut db = context.db.acquire().await?;
    let chain = grant.in_project(&mut db, query.project_id.as_deref()).await?.project_id();
    if method == Method::HEAD {
        return Ok(ExportResponse::head(chain, format));
    }
    let (request, now) = (grant.request(), context.clock.now());
    let changes = [("format".to_owned(), format.as_str().into())].into_iter().collect();
    let draft = read_counts::draft(request, chain, Action::AuditExported, changes, now);
    crate::audit::repo::stage(&mut db, &[(chain, draft)]).await?;
    context.db.pulse().notify_staged();
    drop(db);
    ExportResponse::begin(Export::begin(Exporter::from_app(&context), chain, format).await?, request.id).await
}
