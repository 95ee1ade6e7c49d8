//! Handlers of `/v1/events`.

use std::sync::Arc;

use axum::extract::State;

use super::{
    model::{Event, EventFilter, oldest_retained, require_retained},
    repo,
    stream::{Reader, StreamRequest},
};
use crate::{
    api::events::EventContext,
    auth::grant::Grant,
    base::{
        error::{Error, Result},
        id::{self, EventId},
        identity::scope::of::EventsRead,
        input::page::{ListQuery, Order, PageRequest},
    },
    http::{
        request::{extract::Query, resume::LastEventId},
        response::{EventStream, List},
    },
};

/// Lists the events of a project.
pub async fn list(
    grant: Grant<EventsRead>,
    State(context): State<Arc<EventContext>>,
    Query(query): Query<ListQuery<EventFilter>>,
) -> Result<List<Event>> {
    let mut page: PageRequest<id::Event> = query.page()?;
    let now = context.clock.now();
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    // An ascending list without a cursor begins with the oldest event that is kept.
    if page.after != EventId::FIRST {
        require_retained(page.after, now, "cursor")?;
    }
    let action = query.filter.kind.map(|kind| kind.0);
    let bound = match page.order {
        Order::Asc => {
            page.after = page.after.max(oldest_retained(now));
            EventId::LAST
        }
        Order::Desc => oldest_retained(now),
    };
    let page = repo::list(&mut db, tenant, action, bound, &page).await?;
    let (mut data, next) = (Vec::with_capacity(page.items.len()), page.next.map(|id| id.to_string()));
    for stored in page.items {
        data.push(Event::from_payload(&stored.payload, &context.public_url).map_err(Error::internal)?);
    }
    Ok(List::from_items(data, next, grant.request().id))
}

/// Streams the events of a project.
pub async fn stream(
    grant: Grant<EventsRead>,
    State(context): State<Arc<EventContext>>,
    Query(filter): Query<EventFilter>,
    LastEventId(after): LastEventId,
) -> Result<EventStream> {
    let now = context.clock.now();
    let tenant = grant.in_project(&mut *context.db.acquire().await?, filter.project_id.as_deref()).await?;
    if let Some(after) = after {
        require_retained(after, now, "Last-Event-ID")?;
    }
    let slot = context.hub.reserve(tenant.project_id())?;
    let mut watch = grant.watch(&context.authenticator, tenant);
    watch.check().await?;
    let options = StreamRequest { request: grant.request().id, tenant, action: filter.kind.map(|kind| kind.0), after };
    Ok(EventStream(Reader::new(context, options, slot, watch).await?.into_body()))
}
