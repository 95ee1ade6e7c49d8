//! Route table as a value, from which the router and the OpenAPI document are generated.

use std::{any::type_name, collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    handler::Handler,
    http::{HeaderValue, Method, StatusCode, header},
    response::IntoResponse,
    routing::{MethodFilter, MethodRouter, on},
};

use super::{
    describe::{Endpoint, Operation, ResponseHeader},
    event_schema::EventSchema,
};
use crate::base::{
    action::Action,
    error::{Code, Error},
};

/// Routes, in the order of their definition, grouped by tags.
pub struct Api<S> {
    tags: Vec<Tag>,
    rows: Vec<Row<S>>,
}

/// Part of the API, as the OpenAPI document presents it.
#[derive(Debug)]
pub struct Tag {
    /// Name.
    pub name: &'static str,
    /// Description.
    pub description: &'static str,
    /// Returns the schema of an action, if it is an event that belongs to the tag.
    event_schema: fn(Action) -> Option<EventSchema>,
}

struct Row<S> {
    operation: Operation,
    router: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// Creates an empty table.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { tags: Vec::new(), rows: Vec::new() }
    }

    /// Begins the routes of a slice, or of a part of it, which have this tag.
    #[must_use]
    pub fn tag(mut self, name: &'static str, description: &'static str) -> Self {
        self.tags.push(Tag { name, description, event_schema: |_| None });
        self
    }

    /// Sets the events that belong to the last tag.
    #[must_use]
    pub fn events(mut self, event_schema: fn(Action) -> Option<EventSchema>) -> Self {
        if let Some(tag) = self.tags.last_mut() {
            tag.event_schema = event_schema;
        }
        self
    }

    /// Adds a route for GET and HEAD.
    #[must_use]
    pub fn get<H, T>(self, path: &'static str, handler: H, summary: &'static str) -> Self
    where
        H: Handler<T, S> + Endpoint<T>,
        T: 'static,
    {
        self.row(Method::GET, MethodFilter::GET, path, handler, summary)
    }

    /// Adds a route for POST.
    #[must_use]
    pub fn post<H, T>(self, path: &'static str, handler: H, summary: &'static str) -> Self
    where
        H: Handler<T, S> + Endpoint<T>,
        T: 'static,
    {
        self.row(Method::POST, MethodFilter::POST, path, handler, summary)
    }

    /// Adds a route for PATCH.
    #[must_use]
    pub fn patch<H, T>(self, path: &'static str, handler: H, summary: &'static str) -> Self
    where
        H: Handler<T, S> + Endpoint<T>,
        T: 'static,
    {
        self.row(Method::PATCH, MethodFilter::PATCH, path, handler, summary)
    }

    /// Adds a route for DELETE.
    #[must_use]
    pub fn delete<H, T>(self, path: &'static str, handler: H, summary: &'static str) -> Self
    where
        H: Handler<T, S> + Endpoint<T>,
        T: 'static,
    {
        self.row(Method::DELETE, MethodFilter::DELETE, path, handler, summary)
    }

    /// Sets the errors of the last route that do not follow from its handler's signature.
    #[must_use]
    pub fn errors(mut self, errors: &'static [Code]) -> Self {
        if let Some(row) = self.rows.last_mut() {
            row.operation.errors = errors;
        }
        self
    }

    /// Marks the last route as one that hands out access. The user of a console session must have proved recently who
    /// they are.
    #[must_use]
    pub fn recent_authentication(mut self) -> Self {
        if let Some(row) = self.rows.last_mut() {
            row.operation.needs_recent_authentication = true;
        }
        self
    }

    fn row<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
        summary: &'static str,
    ) -> Self
    where
        H: Handler<T, S> + Endpoint<T>,
        T: 'static,
    {
        let mut operation = Operation {
            index: self.rows.len(),
            tag: self.tags.last().map_or("", |tag| tag.name),
            method,
            path,
            handler: type_name::<H>(),
            summary,
            policy: H::POLICY,
            path_ids: Vec::new(),
            query: None,
            conditional: false,
            resumable: false,
            needs_recent_authentication: false,
            body: None,
            response: H::SHAPE,
            errors: &[],
        };
        H::describe(&mut operation);
        operation.conditional = match operation.method {
            Method::GET => operation.response.has(ResponseHeader::ETag),
            // A DELETE always concerns an item, even without an id in the path, such as the current session.
            Method::DELETE => true,
            _ => !operation.path_ids.is_empty(),
        };
        self.rows.push(Row { operation, router: on(filter, handler) });
        self
    }

    /// Tags, in the order of their definition.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Schema of an action, if it is an event.
    pub fn event_schema(&self, action: Action) -> Option<EventSchema> {
        self.tags.iter().find_map(|tag| (tag.event_schema)(action))
    }

    /// Descriptions of the routes.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.rows.iter().map(|row| &row.operation)
    }

    /// Builds the router, with `gate` before each handler. Unknown paths and methods are rejected before any gate, so
    /// they cost little and reveal nothing.
    pub fn into_router(self, gate: impl Fn(Arc<Operation>, MethodRouter<S>) -> MethodRouter<S>) -> Router<S> {
        let mut paths: BTreeMap<&'static str, (MethodRouter<S>, Vec<Method>)> = BTreeMap::new();
        for Row { operation, router } in self.rows {
            let (methods, allowed) = paths.entry(operation.path).or_default();
            allowed.push(operation.method.clone());
            *methods = std::mem::take(methods).merge(gate(Arc::new(operation), router));
        }
        let mut router = Router::new();
        for (path, (methods, allowed)) in paths {
            let allow = allow_header(&allowed);
            let options = on(MethodFilter::OPTIONS, {
                let allow = allow.clone();
                async move || (StatusCode::NO_CONTENT, [(header::ALLOW, allow)])
            });
            let refusal = async move || {
                let detail =
                    format!("This path supports {}; use one of these methods", allow.to_str().unwrap_or_default());
                ([(header::ALLOW, allow)], Error::new(Code::MethodNotAllowed, detail)).into_response()
            };
            router = router.route(path, methods.merge(options).fallback(refusal));
        }
        router.fallback(async || {
            Error::new(Code::RouteNotFound, "The path does not exist; /openapi.json lists all paths")
        })
    }
}

fn allow_header(methods: &[Method]) -> HeaderValue {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}
