//! Preconditions of writes. They are checked in the transaction of the write, under row locks, so that of two
//! conflicting writes one is rejected.

use sqlx::PgConnection;

use super::model::StoredResource;
use crate::{
    audit::model::difference,
    base::{
        error::{Code, Error, Item, ItemCode, ItemLocation, Result},
        id::ResourceId,
        identity::tenant::Tenant,
    },
    resources::{
        drivers::{
            driver::{ActionType, Unsupported},
            registry::{Provider, Registry},
        },
        engine::lifecycle::{OperationType, Phase},
        kinds::{
            Kind,
            spec::{Member, Spec, SpecFault},
        },
        store,
    },
};

fn item(pointer: impl Into<String>, code: ItemCode, detail: impl Into<String>) -> Item {
    Item { location: ItemLocation::Body(pointer.into()), code, detail: detail.into() }
}

/// Returns the provider that a request names, or the only provider.
pub fn select_provider<'a>(providers: &'a Registry, named: Option<&str>) -> Result<&'a Provider> {
    let known = || providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut all = providers.iter();
    match (named, all.next(), all.next()) {
        (Some(name), ..) => providers.get(name).ok_or_else(|| {
            let detail = format!("unknown provider '{}'; use one of: {}", name.escape_debug(), known());
            Error::invalid_member("/provider", ItemCode::UnknownValue, detail)
        }),
        (None, Some(only), None) => Ok(only),
        (None, ..) => {
            let detail = format!("'provider' is required, because there are several; use one of: {}", known());
            Err(Error::invalid_member("/provider", ItemCode::Required, detail))
        }
    }
}

/// Returns the provider of a resource. The resource cannot be changed if that provider is not configured.
pub fn provider_of<'a>(providers: &'a Registry, resource: &StoredResource) -> Result<&'a Provider> {
    providers.get(&resource.provider).ok_or_else(|| {
        let detail = format!(
            "The resource's provider '{}' is not configured; ask the operator to configure it, or try again later",
            resource.provider
        );
        Error::new(Code::InvalidState, detail)
    })
}

/// Checks that a provider supports resources of this kind.
pub fn require_kind(provider: &Provider, kind: Kind) -> Result<()> {
    if provider.capabilities().of(kind).is_some() {
        return Ok(());
    }
    let kinds = provider.capabilities().kinds.iter().map(|kind| kind.kind.as_str()).collect::<Vec<_>>().join(", ");
    let detail = format!("'{}' does not support {kind}; use one of: {kinds}", provider.name);
    Err(Error::unsupported(vec![item("/kind", ItemCode::Unsupported, detail)]))
}

/// Checks that a project may import objects of a provider's account.
pub fn require_import(provider: &Provider, tenant: Tenant) -> Result<()> {
    let project = tenant.project_id();
    if provider.import_projects.contains(project) {
        return Ok(());
    }
    let detail = format!(
        "This project may not import objects of '{}'; ask the operator to add {project} to import_projects of that provider",
        provider.name
    );
    Err(Error::new(Code::ImportNotAllowed, detail))
}

/// Checks that a spec is valid and supported by its provider. Errors about member `m` point to `at(m)`.
pub fn require_supported_spec(provider: &Provider, spec: &Spec, at: impl Fn(&str) -> String) -> Result<()> {
    if let Some(SpecFault { member, detail }) = spec.fault() {
        return Err(Error::invalid_member(at(member), ItemCode::InvalidFormat, detail));
    }
    let unsupported = provider.driver.validate(spec).into_iter();
    let items: Vec<Item> =
        unsupported.map(|Unsupported { member, detail }| item(at(member), ItemCode::Unsupported, detail)).collect();
    if items.is_empty() { Ok(()) } else { Err(Error::unsupported(items)) }
}

/// Checks that the provider can change a resource from one spec to another. Errors about member `m` point to `at(m)`.
pub fn require_changeable(provider: &Provider, before: &Spec, after: &Spec, at: impl Fn(&str) -> String) -> Result<()> {
    let updatable = provider.capabilities().of(after.kind()).map(|kind| kind.updatable.as_slice()).unwrap_or_default();
    let mut items = Vec::new();
    for (member, _) in difference(before.members(), after.members()) {
        if updatable.contains(&member.as_str()) {
            continue;
        }
        let detail = match updatable {
            [] => format!("'{member}' cannot be changed on '{}'; create another resource", provider.name),
            _ => format!(
                "'{member}' cannot be changed on '{}', only {} can; create another resource",
                provider.name,
                updatable.join(", ")
            ),
        };
        items.push(item(at(&member), ItemCode::Unsupported, detail));
    }
    if let Some(SpecFault { member, detail }) = before.change_fault(after) {
        items.push(item(at(member), ItemCode::Unsupported, detail));
    }
    if items.is_empty() { Ok(()) } else { Err(Error::unsupported(items)) }
}

/// Checks that a provider supports an action on resources of this kind.
pub fn require_action(provider: &Provider, kind: Kind, action: ActionType) -> Result<()> {
    let known = provider.capabilities().of(kind).map(|kind| kind.actions.as_slice()).unwrap_or_default();
    if known.contains(&action) {
        return Ok(());
    }
    let name_of = |action: &ActionType| serde_json::to_value(action).ok()?.as_str().map(str::to_owned);
    let known: Vec<String> = known.iter().filter_map(name_of).collect();
    let detail = format!(
        "'{}' does not support '{}' for {kind}; supported actions: {}",
        provider.name,
        name_of(&action).unwrap_or_default(),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    );
    Err(Error::unsupported(vec![item("/action", ItemCode::Unsupported, detail)]))
}

/// Resource whose references are checked.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceCheck<'a> {
    /// Tenant that owns the resource.
    pub tenant: Tenant,
    /// Provider of the resource.
    pub provider: &'a Provider,
    /// Id and current spec of the resource, if it exists.
    pub current: Option<(ResourceId, &'a Spec)>,
}

impl ReferenceCheck<'_> {
    /// Checks the new references of `spec`. Each must name a resource of the same project and provider, of the right
    /// kind, that the caller may read and that is not being deleted. A volume must not be attached to another instance.
    /// Row locks keep this true until the transaction ends. Errors about member `m` point to `at(m)`.
    pub async fn require(&self, db: &mut PgConnection, spec: &Spec, at: impl Fn(&str) -> String) -> Result<()> {
        let known: Vec<ResourceId> =
            self.current.iter().flat_map(|(_, spec)| spec.references()).map(|(_, &to)| to).collect();
        let (mut places, mut found, mut exclusive) = (Vec::new(), Vec::new(), Vec::new());
        for member in Member::ALL {
            let of_member = spec.references().filter(|(other, _)| *other == member).map(|(_, &to)| to);
            let new: Vec<_> = of_member.enumerate().filter(|(_, to)| !known.contains(to)).collect();
            if new.is_empty() {
                continue;
            }
            self.tenant.require(member.kind().read_scope())?;
            let ids: Vec<ResourceId> = new.iter().map(|(_, id)| *id).collect();
            if member.is_exclusive() {
                found.extend(store::lock_no_key_update(db, self.tenant, &ids).await?);
                exclusive.extend(ids);
            } else {
                found.extend(store::lock_key_share(db, self.tenant, &ids).await?);
            }
            let place = at(member.as_str());
            // An action names one volume, a spec a list.
            let is_list = member.is_list() && place.ends_with(member.as_str());
            let place = |n: usize| if is_list { format!("{place}/{n}") } else { place.clone() };
            places.extend(new.into_iter().map(|(n, id)| (member, place(n), id)));
        }
        let mut items = Vec::new();
        let mut usable = Vec::new();
        for (member, place, id) in places {
            match self.reference_error(member, id, found.iter().find(|resource| resource.id == id)) {
                Some(detail) => items.push(item(place, ItemCode::UnknownValue, detail)),
                None => usable.push(id),
            }
        }
        if !items.is_empty() {
            return Err(Error::validation(items));
        }
        for resource in found.iter().filter(|resource| usable.contains(&resource.id)) {
            match resource.phase {
                Phase::Deleting => require_unlocked(db, resource).await?,
                Phase::Failed => {
                    let detail = format!("{} has failed; fix it with a change or delete it first", resource.id);
                    return Err(Error::new(Code::InvalidState, detail));
                }
                _ => {}
            }
        }
        let attachments = store::attached_instances(db, &exclusive, self.current.map(|(id, _)| id)).await?;
        match attachments.first() {
            None => Ok(()),
            Some((volume, instance)) => Err(Error::new(
                Code::ResourceInUse,
                format!("The volume {volume} is attached to {instance}; detach it first"),
            )),
        }
    }

    fn reference_error(&self, member: Member, id: ResourceId, found: Option<&StoredResource>) -> Option<String> {
        let expected = member.kind();
        match found {
            Some(resource) if resource.kind != expected => {
                Some(format!("{id} is a {}; use a {expected}", resource.kind))
            }
            Some(resource) if resource.phase == Phase::Deleted => {
                Some(format!("{id} is deleted; use another resource"))
            }
            Some(resource) if resource.provider != self.provider.name => {
                Some(format!("{id} is at provider '{}'; use a resource at '{}'", resource.provider, self.provider.name))
            }
            Some(_) => None,
            None => Some(format!("no {expected} {id} in this project; check the id")),
        }
    }
}

/// Checks that no operation is in progress on a resource that the caller has locked.
pub async fn require_unlocked(db: &mut PgConnection, resource: &StoredResource) -> Result<()> {
    let Some(operation) = store::operations::find_in_progress(db, resource.id).await? else { return Ok(()) };
    let detail = format!(
        "An operation on {} is in progress: {} ({}); wait for it with GET /v1/operations/{}?wait=60, then retry",
        resource.id,
        operation.id,
        operation.kind.as_str(),
        operation.id
    );
    Err(Error::new(Code::ResourceLocked, detail))
}

/// Checks that an operation may start on a resource in its current phase.
pub fn require_phase(resource: &StoredResource, operation: OperationType) -> Result<()> {
    if resource.phase.allows(operation, resource.provider_ref.is_some()) {
        return Ok(());
    }
    let detail = match resource.phase {
        Phase::Deleting | Phase::Deleted => {
            format!("{} is {}; create another resource", resource.id, resource.phase.as_str())
        }
        Phase::Failed => format!("{} was never created; delete it and create another resource", resource.id),
        phase => format!("{} is {}; wait until it is active", resource.id, phase.as_str()),
    };
    Err(Error::new(Code::InvalidState, detail))
}

/// Checks that a resource that the caller has locked may be deleted.
pub async fn require_deletable(db: &mut PgConnection, resource: &StoredResource) -> Result<()> {
    require_unlocked(db, resource).await?;
    if resource.protection {
        let detail =
            format!("{} is protected from deletion; to delete it, first PATCH it with 'protection' false", resource.id);
        return Err(Error::new(Code::Protected, detail));
    }
    let dependents = store::dependents(db, resource.id).await?;
    if !dependents.is_empty() {
        let detail = format!(
            "The resource is used by {}; delete those first, or remove it from their spec",
            join_ids(&dependents)
        );
        return Err(Error::new(Code::ResourceInUse, detail));
    }
    require_phase(resource, OperationType::Delete)
}

/// Takes one place of the project's quota for a kind, if one is left.
pub async fn reserve_quota(db: &mut PgConnection, tenant: Tenant, kind: Kind) -> Result<()> {
    store::quotas::reserve_quota(db, tenant, kind).await?.map_err(|maximum| {
        let detail = format!(
            "The quota of {maximum} for {kind} is used up; delete a resource, or ask the operator for a higher quota"
        );
        Error::new(Code::LimitReached, detail)
    })
}

/// Joins ids for an error text.
pub fn join_ids(ids: &[ResourceId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
