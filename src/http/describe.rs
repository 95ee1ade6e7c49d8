//! What a handler's signature says about its route: who may call it, what it reads, what it answers.

use axum::{extract::State, http::Method};
use schemars::{Schema, SchemaGenerator};

use crate::base::{
    error::{Code, Result},
    need::Need,
    request::Route,
    schema::Rules,
};

/// Makes the schema of one type, adding what it refers to to the generator's definitions.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One route, as told by its row in the table and by its handler's signature.
#[derive(Debug)]
pub struct Operation {
    /// Its place in the table.
    pub place: usize,
    /// The method.
    pub method: Method,
    /// The path's template.
    pub path: &'static str,
    /// The handler's full path, such as `cloudapi::keys::handlers::create`.
    pub handler: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Who may call it.
    pub need: Need,
    /// The ids and words in the path, in order.
    pub path_ids: Vec<SchemaOf>,
    /// The query string, if it takes one.
    pub query: Option<&'static Rules>,
    /// Whether it is about one item, so that it heeds `If-Match` and `If-None-Match`.
    pub conditional: bool,
    /// Whether it heeds `Last-Event-ID`.
    pub resumable: bool,
    /// The body, if it takes one.
    pub body: Option<BodyShape>,
    /// What it answers when all is well.
    pub answer: AnswerShape,
    /// The errors of its own, besides those that follow from all of the above.
    pub errors: &'static [Code],
}

/// The body that a route takes.
#[derive(Clone, Copy, Debug)]
pub struct BodyShape {
    /// What is in it.
    pub schema: SchemaOf,
    /// How it may be written.
    pub media_types: &'static [&'static str],
    /// Whether it may not be left out, because it has required members.
    pub required: bool,
}

/// The successful answer of a route.
#[derive(Clone, Copy, Debug)]
pub struct AnswerShape {
    /// The status.
    pub status: u16,
    /// In one sentence.
    pub description: &'static str,
    /// The body's media types, of which each answer has one.
    pub media_types: &'static [&'static str],
    /// The body.
    pub schema: SchemaOf,
    /// Whether `Location` names what was made.
    pub location: bool,
    /// Other answers when all is well, without a body: the status, and in one sentence what it says.
    pub others: &'static [(u16, &'static str)],
    /// The answer to a request that asked what would happen, if it may: the status, in one sentence what it says, the body.
    pub dry_run: Option<(u16, &'static str, SchemaOf)>,
    /// Whether `ETag` names the state that is shown.
    pub etag: bool,
    /// Whether a second sending with the same `Idempotency-Key` gets the same answer.
    pub once: bool,
    /// Whether it shows a secret, which no cache may keep.
    pub private: bool,
    /// Whether the request changes nothing although it is a POST.
    pub read: bool,
    /// Whether `Usage-As-Of` says how far it reaches.
    pub as_of: bool,
}

impl Operation {
    /// Its route's name, such as `GET /v1/keys`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Its route.
    pub fn route(&self) -> Route {
        Route { template: self.path, number: crc32fast::hash(self.name().as_bytes()), place: self.place }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        self.answer.read || self.method == Method::GET
    }
}

/// A first argument, which says who may call.
#[diagnostic::on_unimplemented(
    message = "a handler's first argument must say who may call it, and `{Self}` does not",
    label = "put `Grant<Scope>`, `Session` or `Public` first",
    note = "leaving it out would open the route to everybody"
)]
pub trait Access {
    /// What it asks of the caller.
    const NEED: Need;
}

/// Any other argument.
pub trait Argument {
    /// Adds what it reads to the operation.
    fn describe(_operation: &mut Operation) {}
}

impl<S> Argument for State<S> {}

/// For the few that answer HEAD otherwise than by leaving out the body.
impl Argument for Method {}

/// A handler's successful result.
pub trait Answer {
    /// What it looks like.
    const SHAPE: AnswerShape;
}

/// A function that may stand in the route table: `async fn(impl Access, impl Argument…) ->
/// Result<impl Answer>`. `T` is axum's tuple for the same function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in the route table",
    note = "a handler is an `async fn` whose first argument says who may call it (`Grant<Scope>`, `Session` or `Public`) and which gives `Result<impl Answer>`"
)]
pub trait Endpoint<T> {
    /// What it asks of the caller.
    const NEED: Need;
    /// What it answers.
    const SHAPE: AnswerShape;
    /// Lets each argument add what it reads.
    fn describe(operation: &mut Operation);
}

macro_rules! endpoints {
    ($([$($argument:ident)*])*) => {$(
        impl<F, Fut, R, M, A, $($argument,)*> Endpoint<(M, A, $($argument,)*)> for F
        where
            F: FnOnce(A, $($argument,)*) -> Fut,
            Fut: Future<Output = Result<R>>,
            A: Access,
            R: Answer,
            $($argument: Argument,)*
        {
            const NEED: Need = A::NEED;
            const SHAPE: AnswerShape = R::SHAPE;
            #[allow(unused_variables)]
            fn describe(operation: &mut Operation) {
                $($argument::describe(operation);)*
            }
        }
    )*};
}

endpoints! { [] [T1] [T1 T2] [T1 T2 T3] [T1 T2 T3 T4] [T1 T2 T3 T4 T5] }
