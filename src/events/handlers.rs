//! Handlers of `/v1/events`.

use axum::extract::State;

use super::{
    model::{Event, EventFilter, oldest_retained, require_retained},
    repo,
    stream::{Reader, StreamRequest},
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
        response::{EventStream, List},
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
        require_retained(page.after, now, "cursor")?;
    }
    let action = query.filter.kind.map(|kind| kind.0);
    let page = repo::list(&mut db, tenant, action, oldest_retained(now), &page).await?;
    let (mut data, next) = (Vec::with_capacity(page.items.len()), page.next.map(|id| id.to_string()));
    for stored in page.items {
        data.push(Event::from_payload(&stored.payload, &app.public_url).map_err(Error::internal)?);
    }
    Ok(List::from_items(data, next, grant.request().id))
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
        require_retained(after, now, "Last-Event-ID")?;
    }
    let slot = app.hub.reserve(tenant.project_id())?;
    let mut watch = grant.watch(&app.authenticator, tenant);
    watch.check().await?;
    let options = StreamRequest { request: grant.request().id, tenant, action: filter.kind.map(|kind| kind.0), after };
    Ok(EventStream(Reader::new(&app, options, slot, watch).await?.into_body()))
}
