//! `POST /v1/resources/import`.

use std::sync::Arc;

use axum::extract::State;
use serde_json::Value;

use super::handlers::creation_draft;

use crate::{
    auth::grant::Grant,
    base::{
        action::Action,
        error::{Code, Error, Item, ItemCode, ItemLocation, Result},
        id::ResourceId,
        identity::scope::of::ResourcesWrite,
    },
    db::violated_constraint,
    http::request::extract::{JsonBody, Query},
    resources::{
        ResourceContext,
        api::{
            input::{DryRunQuery, NewImport},
            rules,
            submit::{WriteResponse, commit_or_plan},
        },
        engine::lifecycle::OperationType,
        store::{self, ResourceRow},
    },
    tx::{Idempotent, begin_or_replay},
};

/// Imports an existing object as a resource.
pub async fn import(
    grant: Grant<ResourcesWrite>,
    State(context): State<Arc<ResourceContext>>,
    Query(query): Query<DryRunQuery>,
    body: JsonBody<NewImport>,
) -> Result<Idempotent<WriteResponse>> {
    let mut tx = context.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_for_write(tx.db(), body.project_id()?).await?;
    let (mut tx, new) = begin_or_replay!(tx.begin_idempotent(body).await?);
    tenant.require(new.kind.write_scope())?;
    let provider = rules::select_provider(&context.cloud.providers, Some(&new.provider))?;
    rules::require_kind(provider, new.kind)?;
    if !provider.capabilities().import {
        let detail = format!("'{}' does not support import; create a new resource", provider.name);
        let location = ItemLocation::Body("/provider".into());
        return Err(Error::unsupported(vec![Item { location, code: ItemCode::Unsupported, detail }]));
    }
    tenant.require_active()?;
    // Checked before the response reveals anything about the object.
    rules::require_import(provider, tenant)?;
    let owner = store::owner_of_object(tx.db(), &provider.name, new.kind, &new.provider_ref).await?;
    if let Some((owner, project)) = owner {
        let owner_text =
            if project == tenant.project_id() { owner.to_string() } else { "a resource elsewhere".to_owned() };
        return Err(already_owned(&new.provider_ref, &owner_text));
    }
    rules::reserve_quota(tx.db(), tenant, new.kind).await?;
    let reference = new.provider_ref.clone();
    let row = ResourceRow {
        id: ResourceId::new(),
        kind: new.kind,
        provider: provider.name.clone(),
        name: new.name,
        labels: new.labels.unwrap_or_default(),
        // Set when the object has been read.
        spec: Value::Object(serde_json::Map::new()),
        desired_power: None,
        provider_ref: Some(new.provider_ref),
        protection: new.protection.unwrap_or_default(),
        reconcile: new.reconcile.unwrap_or_default(),
        expires_at: None,
        created_at: context.clock.now(),
    };
    let resource = store::insert(tx.db(), tenant, row).await.map_err(|error| match violated_constraint(&error) {
        Some("resources_one_per_object") => already_owned(&reference, "another resource"),
        _ => error.into(),
    })?;
    let actions = (OperationType::Import, Action::ResourceImportRequested);
    let draft = creation_draft(&context, &grant, &mut tx, resource, actions).await?;
    commit_or_plan(&context, tx, draft, query.is_requested()).await
}

fn already_owned(reference: &str, owner_text: &str) -> Error {
    let detail = format!(
        "The object '{}' already belongs to {owner_text}; use that resource, or import another object",
        reference.escape_debug()
    );
    Error::new(Code::ResourceInUse, detail)
}
