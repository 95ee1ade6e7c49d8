//! Call of one of the server's SQL functions, as a value, so that a transaction can wrap it in further function calls
//! in the same statement.

use std::fmt::{self, Write};

use sqlx::{Arguments, AssertSqlSafe, Encode, PgConnection, Postgres, Type, error::BoxDynError, postgres::PgArguments};

use crate::base::error::{Code, Error, Result};

/// Result of a function that did its work.
const DONE: &str = "done";

/// Call of a SQL function. The function's first argument says whether it may act. It returns `done`, or a word that
/// says why it did nothing.
#[derive(Debug)]
pub struct Call {
    function: &'static str,
    refusal: Refusal,
    arguments: std::result::Result<PgArguments, BoxDynError>,
    bound: usize,
    /// Number of arguments that belong to the function itself.
    own_arguments: Option<usize>,
    claim: Option<String>,
    checks: Vec<(&'static str, String)>,
    wrappers: Vec<(&'static str, String)>,
}

type RefusalFn = dyn Fn(&str) -> Option<Error> + Send + Sync;

/// Maps result words of a function to errors.
struct Refusal(Box<RefusalFn>);

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusal(..)")
    }
}

impl Call {
    /// Creates a call of `function`. `refusal` maps its result words to errors.
    pub fn new(function: &'static str, refusal: impl Fn(&str) -> Option<Error> + Send + Sync + 'static) -> Self {
        let refusal = Refusal(Box::new(refusal));
        let arguments = Ok(PgArguments::default());
        Self {
            function,
            refusal,
            arguments,
            bound: 0,
            own_arguments: None,
            claim: None,
            checks: Vec::new(),
            wrappers: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn bind<'a>(mut self, value: impl Encode<'a, Postgres> + Type<Postgres>) -> Self {
        self.arguments = self.arguments.and_then(|mut arguments| arguments.add(value).map(|()| arguments));
        self.bound += 1;
        self
    }

    /// Makes the call conditional on the result of `function`, whose arguments `bind` binds. Without it, the call is
    /// unconditional.
    #[must_use]
    pub fn guard_with(self, function: &'static str, bind: impl FnOnce(Self) -> Self) -> Self {
        let (mut call, arguments) = self.bind_more(bind);
        call.claim = Some(format!("{function}({arguments})"));
        call
    }

    /// Makes the call conditional on `function` too, which receives the result of what was checked before and the
    /// arguments that `bind` binds.
    #[must_use]
    pub fn check_with(self, function: &'static str, bind: impl FnOnce(Self) -> Self) -> Self {
        let (mut call, arguments) = self.bind_more(bind);
        call.checks.push((function, arguments));
        call
    }

    /// Wraps the call in `function`, which receives the call's result and the arguments that `bind` binds.
    #[must_use]
    pub fn wrap_with(self, function: &'static str, bind: impl FnOnce(Self) -> Self) -> Self {
        let (mut call, arguments) = self.bind_more(bind);
        call.wrappers.push((function, arguments));
        call
    }

    fn bind_more(mut self, bind: impl FnOnce(Self) -> Self) -> (Self, String) {
        let before = self.bound;
        self.own_arguments.get_or_insert(before);
        let call = bind(self);
        let arguments = placeholders(before, call.bound);
        (call, arguments)
    }

    fn sql(&self) -> String {
        let own_arguments = placeholders(0, self.own_arguments.unwrap_or(self.bound));
        let mut claim = self.claim.clone().unwrap_or_else(|| "'first'".to_owned());
        for (function, arguments) in &self.checks {
            claim = format!("{function}({claim},{arguments})");
        }
        let mut sql = format!("{}({claim},{own_arguments})", self.function);
        for (function, arguments) in &self.wrappers {
            sql = format!("{function}({sql},{arguments})");
        }
        format!("SELECT {sql}")
    }

    /// Executes a call that no claim guards, in a separate transaction if `db` is not in one.
    pub async fn execute(self, db: &mut PgConnection) -> Result<()> {
        self.run(db).await?.map_err(|word| unexpected_result(&word))
    }

    /// Executes the call, in a separate transaction if `db` is not in one. Returns a result word that is not from this
    /// function but from a wrapping one.
    pub async fn run(self, db: &mut PgConnection) -> Result<std::result::Result<(), String>> {
        // The SQL has only names of functions and numbers of parameters, nothing from outside.
        let sql = AssertSqlSafe(self.sql());
        let Refusal(refusal) = self.refusal;
        let word: String = sqlx::query_scalar_with(sql, self.arguments.map_err(Error::internal)?).fetch_one(db).await?;
        match refusal(&word).or_else(|| check_error(&word)) {
            Some(refused) => Err(refused),
            None if word == DONE => Ok(Ok(())),
            None => Ok(Err(word)),
        }
    }
}

/// Error for a result word that no caller expects.
pub fn unexpected_result(word: &str) -> Error {
    Error::internal(format!("a SQL function returned the unexpected result '{word}'"))
}

/// Error of a check that is common to several calls.
fn check_error(word: &str) -> Option<Error> {
    (word == "membership_changed").then(|| {
        let detail = "Your role or the project's status changed during the request; send the request again";
        Error::new(Code::Overloaded, detail).retry_after(1)
    })
}

/// Returns placeholders: `$3,$4` for the parameters after the second up to the fourth.
fn placeholders(after: usize, up_to: usize) -> String {
    let mut text = String::new();
    for number in after + 1..=up_to {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}${number}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_nested_in_the_calls_around_it() {
        let call = || Call::new("make", |_| None).bind(1_i32).bind(2_i32);
        assert_eq!(call().sql(), "SELECT make('first',$1,$2)");
        let wrappers =
            call().guard_with("claim", |call| call.bind(3_i32)).wrap_with("keep", |call| call.bind(4_i32).bind(5_i32));
        assert_eq!(wrappers.sql(), "SELECT keep(make(claim($3),$1,$2),$4,$5)");
        let checked = call().check_with("check", |call| call.bind(3_i32)).guard_with("claim", |call| call.bind(4_i32));
        assert_eq!(checked.sql(), "SELECT make(check(claim($4),$3),$1,$2)");
        assert_eq!(call().wrap_with("keep", |call| call.bind(3_i32)).sql(), "SELECT keep(make('first',$1,$2),$3)");
    }
}
