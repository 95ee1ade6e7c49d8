//! Handlers of `/v1/webhooks`.

use std::{sync::Arc, time::Duration};

use axum::extract::State;

use super::{
    delivery::{sign::WebhookSecret, url_policy},
    model::{
        DEFAULT_OVERLAP_SECONDS, DeletedWebhook, DeliveryFilter, DeliveryView, IssuedWebhook, NewWebhook,
        SecretRotation, TestedWebhook, WebhookFilter, WebhookPatch, WebhookView,
    },
    repo::{self, WebhookChange, WebhookRow},
};
use crate::{
    api::webhooks::WebhookContext,
    auth::grant::{Grant, SessionOrKey},
    base::{
        action::Action,
        error::{Code, Error, Result},
        etag::Versioned,
        id::{self, WebhookId},
        identity::scope::of::{WebhooksRead, WebhooksWrite},
        input::page::ListQuery,
    },
    db::deletions::{self, Deletion},
    http::{
        request::extract::{EmptyRequest, JsonBody, PathId, PathIds, Query},
        response::{Accepted, Created, Issued, Json, List, WithEtag},
    },
    tx::{Change, Effect, Idempotent, begin_or_replay},
};

/// Creates a webhook.
pub async fn create(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    body: JsonBody<NewWebhook>,
) -> Result<Idempotent<Issued<IssuedWebhook>>> {
    let now = context.clock.now();
    let tenant = grant.in_project_on(&context.db, body.project_id()?).await?;
    let plan = |new: NewWebhook| {
        let url = url_policy::parse(&new.url, context.outbox.sender.allowed())?;
        tenant.require_active()?;
        let (id, secret) = (WebhookId::new(), WebhookSecret::generate());
        let row = WebhookRow {
            id,
            url: url.into(),
            event_types: new.event_types.unwrap_or_default(),
            description: new.description.unwrap_or_default(),
            enabled: new.enabled.unwrap_or(true),
            secret: sealed(&context, id, &secret)?,
            created_at: now,
        };
        let (call, stored) = repo::create(tenant, row);
        let view = WebhookView::from(stored);
        let change = Change::new(Action::WebhookCreated, id, Some(view.project_id)).created(&view);
        let body = IssuedWebhook { secret, view };
        let response = Issued(Created { location: format!("/v1/webhooks/{id}"), body });
        Ok(Effect { call: grant.require_still(tenant, call), change, response })
    };
    context.writes.execute_single(grant.request(), body, plan).await
}

/// Lists a project's webhooks.
pub async fn list(
    grant: Grant<WebhooksRead, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    Query(query): Query<ListQuery<WebhookFilter>>,
) -> Result<List<WebhookView>> {
    let page = query.page()?;
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &page).await?;
    Ok(List::new(page.map(WebhookView::from), grant.request().id))
}

/// Returns a webhook.
pub async fn get(
    grant: Grant<WebhooksRead, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
) -> Result<WithEtag<WebhookView>> {
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let webhook = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    Ok(WithEtag(webhook.into()))
}

/// Updates a webhook.
pub async fn update(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
    body: JsonBody<WebhookPatch>,
) -> Result<Idempotent<WithEtag<WebhookView>>> {
    let (mut tx, patch) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let url = patch.url.0.map(|url| url_policy::parse(&url, context.outbox.sender.allowed())).transpose()?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let stored = repo::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    let before = WebhookView::from(stored);
    tx.require_match(&before)?;
    tenant.require_active()?;
    let change = WebhookChange {
        url: url.map(String::from),
        event_types: patch.event_types.change_or_default(),
        description: patch.description.change_or_default(),
        enabled: patch.enabled.0,
    };
    if change.enabled == Some(true) && !before.enabled {
        repo::expire(tx.db(), id, &context.outbox.policy).await?;
    }
    let after = WebhookView::from(repo::update(tx.db(), tenant, id, change).await?);
    let change = Change::new(Action::WebhookUpdated, id, Some(after.project_id)).updated(&before, &after);
    tx.commit(change, WithEtag(after)).await
}

/// Deletes a webhook.
pub async fn delete(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
) -> Result<Json<DeletedWebhook>> {
    let mut tx = context.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let reply = Json(DeletedWebhook { id, deleted: true });
    let Some(webhook) = repo::delete(tx.db(), tenant, id).await? else {
        deletions::find(tx.db(), tenant.project_id(), id).await?.ok_or_else(Error::not_found)?;
        tx.waive_preconditions();
        return tx.commit_unchanged(reply).await;
    };
    let webhook = WebhookView::from(webhook);
    tx.require_match(&webhook)?;
    let deletion = Deletion { role: None, repeatable_by: Vec::new() };
    deletions::record(tx.db(), tenant.project_id(), id, deletion, context.clock.now()).await?;
    let change = Change::new(Action::WebhookDeleted, id, Some(tenant.project_id())).deleted(&webhook);
    tx.commit(change, reply).await
}

/// Rotates a webhook's secret. The previous secret remains valid for the overlap.
pub async fn rotate_secret(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
    body: JsonBody<SecretRotation>,
) -> Result<Idempotent<Issued<IssuedWebhook>>> {
    let now = context.clock.now();
    let (mut tx, rotation) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let overlap = rotation.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let stored = repo::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    let before = WebhookView::from(stored);
    tx.require_match(&before)?;
    tenant.require_active()?;
    match before.previous_expires_at {
        Some(end) if end > now && overlap > 0 => {
            return Err(Error::new(
                Code::RotationInProgress,
                format!(
                    "The webhook has two valid secrets until {end}; rotate it then, or use an overlap of 0 to invalidate both"
                ),
            ));
        }
        _ => {}
    }
    let secret = WebhookSecret::generate();
    let previous_end = (overlap > 0).then(|| now.plus(Duration::from_secs(overlap.into())));
    let sealed = sealed(&context, id, &secret)?;
    let view = WebhookView::from(repo::rotate(tx.db(), tenant, id, &sealed, previous_end, now).await?);
    let change = Change::new(Action::WebhookSecretRotated, id, Some(view.project_id)).updated(&before, &view);
    let body = IssuedWebhook { secret, view };
    tx.commit(change, Issued(Created { location: format!("/v1/webhooks/{id}"), body })).await
}

/// Sends the event `webhook.tested` to a webhook.
pub async fn test(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<Accepted<TestedWebhook>>> {
    let (mut tx, EmptyRequest {}) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let webhook = repo::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    let view = WebhookView::from(webhook);
    tx.require_match(&view)?;
    require_enabled(view.enabled)?;
    let change = Change::new(Action::WebhookTested, id, Some(view.project_id));
    let body = TestedWebhook { id, queued: true };
    let location = format!("/v1/webhooks/{id}/deliveries?order=desc");
    tx.commit(change, Accepted { location, etag: view.etag(), body }).await
}

/// Lists a webhook's deliveries.
pub async fn deliveries(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathId(id): PathId<id::Webhook>,
    Query(query): Query<ListQuery<DeliveryFilter>>,
) -> Result<List<DeliveryView>> {
    let page = query.page()?;
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let webhook = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    let page = repo::deliveries(&mut db, &webhook, query.filter.status, &page).await?;
    Ok(List::new(page.map(DeliveryView::from), grant.request().id))
}

/// Returns a delivery.
pub async fn delivery(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathIds(id, delivery): PathIds<id::Webhook, id::Delivery>,
) -> Result<WithEtag<DeliveryView>> {
    let mut db = context.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let webhook = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    let delivery = repo::delivery(&mut db, &webhook, delivery).await?.ok_or_else(Error::not_found)?;
    Ok(WithEtag(delivery.into()))
}

/// Sends a delivery again.
pub async fn redeliver(
    grant: Grant<WebhooksWrite, SessionOrKey>,
    State(context): State<Arc<WebhookContext>>,
    PathIds(id, delivery): PathIds<id::Webhook, id::Delivery>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<Accepted<DeliveryView>>> {
    let (mut tx, EmptyRequest {}) = begin_or_replay!(context.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let webhook = repo::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    if tx.is_conditional() {
        let before = repo::delivery(tx.db(), &webhook, delivery).await?.ok_or_else(Error::not_found)?;
        tx.require_match(&DeliveryView::from(before))?;
    }
    let delivery = repo::redeliver(tx.db(), &webhook, delivery).await?.ok_or_else(Error::not_found)?;
    require_enabled(webhook.enabled)?;
    let change = Change::new(Action::DeliveryRetried, delivery.id, Some(webhook.project_id))
        .with("webhook_id", id)
        .with("event_id", delivery.event_id);
    let location = format!("/v1/webhooks/{id}/deliveries/{}", delivery.id);
    let body = DeliveryView::from(delivery);
    let answer = tx.commit(change, Accepted { location, etag: body.etag(), body }).await?;
    context.outbox.wake.notify_one();
    Ok(answer)
}

fn sealed(context: &WebhookContext, id: WebhookId, secret: &WebhookSecret) -> Result<Vec<u8>> {
    context.outbox.cipher.seal(id, secret).ok_or_else(|| Error::internal("failed to seal a webhook secret"))
}

fn require_enabled(is_enabled: bool) -> Result<()> {
    if is_enabled {
        return Ok(());
    }
    let detail = "The webhook is disabled; enable it with PATCH and 'enabled' true, then retry";
    Err(Error::new(Code::WebhookDisabled, detail))
}
