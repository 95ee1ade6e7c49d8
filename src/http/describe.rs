//! Description of a route, derived from its handler's signature: access, inputs and response.

use axum::{extract::State, http::Method};
use schemars::{Schema, SchemaGenerator};

use crate::base::{
    error::{Code, Result},
    identity::access_policy::AccessPolicy,
    input::schema::Rules,
    runtime::request::Route,
};

/// Generates the schema of a type. Adds the types that it refers to to the generator's definitions.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Route, as described by its row in the route table and by its handler's signature.
#[derive(Debug)]
pub struct Operation {
    /// Position in the route table.
    pub index: usize,
    /// Tag in the OpenAPI document.
    pub tag: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path template.
    pub path: &'static str,
    /// Full path of the handler, such as `cloudapi::api::keys::handlers::create`.
    pub handler: &'static str,
    /// Summary in one line.
    pub summary: &'static str,
    /// Required access.
    pub policy: AccessPolicy,
    /// Schemas of the ids and words in the path, in order.
    pub path_ids: Vec<SchemaOf>,
    /// Rules of the query string, if the route has one.
    pub query: Option<&'static Rules>,
    /// Whether the route concerns a single item and evaluates `If-Match` and `If-None-Match`.
    pub conditional: bool,
    /// Whether the route evaluates `Last-Event-ID`.
    pub resumable: bool,
    /// Whether the route hands out access, so that the user of a console session must have proved recently who they are.
    pub needs_recent_authentication: bool,
    /// Request body, if the route has one.
    pub body: Option<BodyShape>,
    /// Successful response.
    pub response: ResponseShape,
    /// Declared error codes, in addition to those that follow from the other fields.
    pub errors: &'static [Code],
}

/// Request body of a route.
#[derive(Clone, Copy, Debug)]
pub struct BodyShape {
    /// Schema.
    pub schema: SchemaOf,
    /// Accepted media types.
    pub media_types: &'static [&'static str],
    /// Whether the body is required, because it has required members.
    pub required: bool,
}

/// Successful response of a route.
#[derive(Clone, Copy, Debug)]
pub struct ResponseShape {
    /// HTTP status code.
    pub status: u16,
    /// Description in one sentence.
    pub description: &'static str,
    /// Media types. Each response has one of them.
    pub media_types: &'static [&'static str],
    /// Schema of the body.
    pub schema: SchemaOf,
    /// Headers with a meaning of their own.
    pub headers: ResponseHeaders,
    /// Other successful responses, which have no body: status and description.
    pub others: &'static [(u16, &'static str)],
    /// Response to a dry run, if the route supports it: status, description and schema of the body.
    pub dry_run: Option<(u16, &'static str, SchemaOf)>,
    /// Effect of the request.
    pub effect: RequestEffect,
    /// Confidentiality of the body.
    pub secrecy: Secrecy,
}

/// Effect of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEffect {
    /// As the method defines: GET is a read, every other method is a write.
    OfMethod,
    /// None, although the method is POST.
    None,
    /// A write that is executed once for each `Idempotency-Key`. A repeated request gets the stored response.
    Idempotent,
}

/// Confidentiality of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// The body contains no secret.
    Open,
    /// The body contains a secret: caches must not store it, and a stored copy is sealed.
    Secret,
}

/// Header of a response that the OpenAPI document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseHeader {
    /// `Location`.
    Location = 1,
    /// `ETag`.
    ETag = 2,
    /// `Usage-As-Of`.
    UsageAsOf = 4,
}

/// Set of [`ResponseHeader`]s, usable in constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeaders(u8);

impl ResponseHeaders {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Adds a header.
    #[must_use]
    pub const fn with(self, header: ResponseHeader) -> Self {
        Self(self.0 | header as u8)
    }
}

impl ResponseShape {
    /// Adds a header.
    #[must_use]
    pub const fn with(self, header: ResponseHeader) -> Self {
        Self { headers: self.headers.with(header), ..self }
    }

    /// Reports whether the response has a header.
    pub const fn has(&self, header: ResponseHeader) -> bool {
        self.headers.0 & header as u8 != 0
    }

    /// Reports whether a repeated request with the same `Idempotency-Key` gets the stored response.
    pub fn is_idempotent(&self) -> bool {
        self.effect == RequestEffect::Idempotent
    }

    /// Reports whether the body contains a secret.
    pub fn is_secret(&self) -> bool {
        self.secrecy == Secrecy::Secret
    }
}

impl Operation {
    /// Returns the name of the route, such as `GET /v1/keys`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns the route.
    pub fn route(&self) -> Route {
        Route { template: self.path, number: crc32fast::hash(self.name().as_bytes()), index: self.index }
    }

    /// Returns whether the route changes nothing.
    pub fn is_read(&self) -> bool {
        self.response.effect == RequestEffect::None || self.method == Method::GET
    }
}

/// First argument of a handler, which determines the required access.
#[diagnostic::on_unimplemented(
    message = "the first argument of a handler must state the required access; `{Self}` does not",
    label = "put `Grant<Scope>`, `Session` or `Public` first",
    note = "without it, the route would be public"
)]
pub trait Access {
    /// Required access.
    const POLICY: AccessPolicy;
}

/// Any other argument of a handler.
pub trait Argument {
    /// Adds the input that the argument reads to the operation.
    fn describe(_operation: &mut Operation) {}
}

impl<S> Argument for State<S> {}

/// For the few handlers whose response to HEAD differs by more than the omitted body.
impl Argument for Method {}

/// Successful result of a handler.
pub trait ApiResponse {
    /// Description of the response.
    const SHAPE: ResponseShape;
}

/// Function that the route table accepts: `async fn(impl Access, impl Argument…) -> Result<impl ApiResponse>`. `T` is
/// axum's tuple for the same function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler for the route table",
    note = "a handler is an `async fn` that returns `Result<impl ApiResponse>` and whose first argument states the required access: `Grant<Scope>`, `Session` or `Public`"
)]
pub trait Endpoint<T> {
    /// Required access.
    const POLICY: AccessPolicy;
    /// Description of the response.
    const SHAPE: ResponseShape;
    /// Adds the inputs of all arguments to the operation.
    fn describe(operation: &mut Operation);
}

macro_rules! endpoints {
    ($([$($argument:ident)*])*) => {$(
        impl<F, Fut, R, M, A, $($argument,)*> Endpoint<(M, A, $($argument,)*)> for F
        where
            F: FnOnce(A, $($argument,)*) -> Fut,
            Fut: Future<Output = Result<R>>,
            A: Access,
            R: ApiResponse,
            $($argument: Argument,)*
        {
            const POLICY: AccessPolicy = A::POLICY;
            const SHAPE: ResponseShape = R::SHAPE;
            #[allow(unused_variables)]
            fn describe(operation: &mut Operation) {
                $($argument::describe(operation);)*
            }
        }
    )*};
}

endpoints! { [] [T1] [T1 T2] [T1 T2 T3] [T1 T2 T3 T4] [T1 T2 T3 T4 T5] }
