//! Handlers of `/v1/events`.

use axum::extract::State;

use super::{
    model::{Event, EventFilter, oldest, require_kept},
    repo,
    stream::{Reader, Wanted},
};
use crate::{
    auth::grant::Grant,
    base::{
        error::{Error, Result},
        id::{self, EventId},
        page::{ListQuery, PageRequest},
        scope::of::EventsRead,
    },
    http::{
        extract::Query,
        reply::{EventStream, List},
        resume::LastEventId,
    },
    state::App,
};

/// Lists the events of a project.
pub async fn list(
    grant: Grant<EventsRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<EventFilter>>,
) -> Result<List<Event>> {
    let page: PageRequest<id::Event> = query.page()?;
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    // An ascending list without a cursor begins with the oldest event that is kept.
    if page.after != EventId::FIRST {
        require_kept(page.after, now, "cursor")?;
    }
    let action = query.filter.kind.map(|kind| kind.0);
    let page = repo::list(&mut db, tenant, action, oldest(now), &page).await?;
    let (mut data, next) = (Vec::with_capacity(page.items.len()), page.next.map(|id| id.to_string()));
    for sealed in page.items {
        data.push(Event::of(&sealed.payload, &app.public_url).map_err(Error::internal)?);
    }
    Ok(List::of(data, next, grant.request().id))
}

/// Streams the events of a project.
pub async fn stream(
    grant: Grant<EventsRead>,
    State(app): State<App>,
    Query(filter): Query<EventFilter>,
    LastEventId(after): LastEventId,
) -> Result<EventStream> {
    let now = app.clock.now();
    let tenant = grant.in_project(&mut *app.db.acquire().await?, filter.project_id.as_deref()).await?;
    if let Some(after) = after {
        require_kept(after, now, "Last-Event-ID")?;
    }
    let place = app.hub.enter(tenant.project_id())?;
    let mut watch = grant.watch(&app.authenticator, tenant);
    watch.judge().await?;
    let wanted = Wanted { request: grant.request().id, tenant, action: filter.kind.map(|kind| kind.0), after };
    Ok(EventStream(Reader::new(&app, wanted, place, watch).await?.into_body()))
}
