//! Handlers of `/v1/audit-logs`.

use axum::{extract::State, http::Method};

use super::{
    export::{Export, Exporter},
    reads,
    stream::Exported,
    trail::{self, Filter},
    view::{Checkpoint, Entry, EntryFilter, ExportQuery},
};
use crate::{
    auth::grant::Grant,
    base::{
        action::Action,
        error::Result,
        page::{InProject, ListQuery, Page},
        scope::of::AuditRead,
    },
    http::{extract::Query, reply::List},
    state::App,
};

/// Lists the project's entries and records the read.
pub async fn list(
    grant: Grant<AuditRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<EntryFilter>>,
) -> Result<List<Entry>> {
    let page = query.page()?;
    let asked = &query.filter;
    asked.check()?;
    let filter = Filter {
        from: asked.from,
        to: asked.to,
        actor: asked.actor.as_deref(),
        action: asked.action,
        target: asked.target.as_deref(),
    };
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, asked.project_id.as_deref()).await?;
    app.reads.note(&mut db, grant.request(), tenant.project_id(), app.clock.now()).await?;
    let Page { items, next } = trail::list(&mut db, tenant, &filter, &page).await?;
    let items = items.into_iter().map(Entry::of).collect::<Result<_>>()?;
    Ok(List::new(Page { items, next }, grant.request().id))
}

/// Lists the checkpoints of the project's chain. Checkpoints contain no personal data, so reading them is not recorded.
pub async fn checkpoints(
    grant: Grant<AuditRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<InProject>>,
) -> Result<List<Checkpoint>> {
    let page = query.page()?;
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = trail::checkpoints(&mut db, tenant, &page).await?;
    Ok(List::new(page.map(Checkpoint::of), grant.request().id))
}

/// Exports the project's whole trail and records the export.
pub async fn export(
    grant: Grant<AuditRead>,
    State(app): State<App>,
    method: Method,
    Query(query): Query<ExportQuery>,
) -> Result<Exported> {
    let format = query.format.unwrap_or_default();
    let mut db = app.db.acquire().await?;
    let chain = grant.in_project(&mut db, query.project_id.as_deref()).await?.project_id();
    if method == Method::HEAD {
        return Ok(Exported::head(chain, format));
    }
    let (request, now) = (grant.request(), app.clock.now());
    let changes = [("format".to_owned(), format.as_str().into())].into_iter().collect();
    let told = reads::by(request, chain, Action::AuditExported, changes, now);
    super::repo::stage(&mut db, &[(chain, told)]).await?;
    drop(db);
    Exported::begin(Export::begin(Exporter::of(&app), chain, format).await?, request.id).await
}
