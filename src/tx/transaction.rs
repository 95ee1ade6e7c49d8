//! An open transaction on a pool connection.
//!
//! sqlx uses separate round trips for BEGIN and COMMIT, and rolls back a dropped transaction only when the connection
//! is used next. Here, the first and the last statement are sent together with BEGIN and COMMIT. An abandoned
//! transaction is rolled back before its request gets its response, so that its locks do not block the client's next
//! request.

use std::{fmt::Write, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};
use tokio::time::timeout;

use crate::{
    base::{hex, runtime::request::RequestContext},
    db::{Pool, WriteConnection, sqlstate},
};

/// Time limit for the last statements of a write and its COMMIT. Longer than the database's timeouts, and shorter than
/// the request timeout, so that the client gets a response.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(22);
/// Time limit for ROLLBACK. After it, the connection is closed.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Transaction {
    /// None once the transaction is committed.
    connection: Option<WriteConnection>,
    request: Arc<RequestContext>,
}

/// Failure of COMMIT.
#[derive(Debug)]
pub(super) enum CommitFailure {
    /// The transaction was rolled back.
    RolledBack(sqlx::Error),
    /// The transaction may be committed: the response was lost or did not arrive in time.
    Unknown(Option<sqlx::Error>),
}

impl Transaction {
    /// Begins a transaction, and executes `sql` in it.
    pub(super) async fn begin(
        pool: &Pool,
        request: &Arc<RequestContext>,
        sql: &Sql,
    ) -> sqlx::Result<(Self, Vec<PgRow>)> {
        let connection = Some(pool.acquire_for_write().await?);
        // Created before BEGIN is sent: if this future is dropped, the transaction may have begun.
        let mut transaction = Self { connection, request: Arc::clone(request) };
        let rows = run(transaction.db(), format!("BEGIN;{}", sql.0)).await?;
        Ok((transaction, rows))
    }

    /// Connection, inside the transaction.
    pub(super) fn db(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            // `commit` consumes `self`.
            None => unreachable!("use of a committed transaction"),
        }
    }

    /// Executes `sql` in the transaction.
    pub(super) async fn run(&mut self, sql: &Sql) -> sqlx::Result<Vec<PgRow>> {
        run(self.db(), sql.0.clone()).await
    }

    /// Executes `sql` and commits.
    pub(super) async fn commit(mut self, sql: &Sql) -> Result<Vec<PgRow>, CommitFailure> {
        self.request.set_commit_sent(true);
        let failure = match timeout(COMMIT_TIMEOUT, run(self.db(), format!("{}COMMIT", sql.0))).await {
            Ok(Ok(rows)) => {
                // Returned to the pool with nothing to roll back.
                drop(self.connection.take());
                return Ok(rows);
            }
            Ok(Err(error)) if !sqlstate::may_have_committed(&error) => {
                self.request.set_commit_sent(false);
                return Err(CommitFailure::RolledBack(error));
            }
            Ok(Err(error)) => CommitFailure::Unknown(Some(error)),
            Err(_) => CommitFailure::Unknown(None),
        };
        // Do not wait for statements that are still running.
        if let Some(connection) = self.connection.take() {
            connection.close_in_background();
        }
        Err(failure)
    }
}

async fn run(db: &mut PgConnection, sql: String) -> sqlx::Result<Vec<PgRow>> {
    // An `Sql` contains outside text only as literals.
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(db).await
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => self.request.delay_response_until(runtime.spawn(async move {
                let rolled_back = timeout(ROLLBACK_TIMEOUT, sqlx::raw_sql("ROLLBACK").execute(&mut *connection)).await;
                if !matches!(rolled_back, Ok(Ok(_))) {
                    connection.close_in_background();
                }
            })),
            Err(_) => connection.close_in_background(),
        }
    }
}

/// SQL function calls and insertions with literals as arguments, because statements sent with BEGIN or COMMIT cannot
/// have parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Sql(String);

impl Sql {
    /// `SELECT function(…);`
    pub(super) fn call(function: &'static str, arguments: &[Literal<'_>]) -> Self {
        let mut sql = format!("SELECT {function}(");
        write_list(&mut sql, arguments);
        Self(sql)
    }

    /// `SELECT function(…), auth_server();`
    pub(super) fn call_stamped(function: &'static str, arguments: &[Literal<'_>]) -> Self {
        let Self(mut sql) = Self::call(function, arguments);
        sql.truncate(sql.len() - 1);
        sql.push_str(", auth_server();");
        Self(sql)
    }

    /// `INSERT INTO table (columns) VALUES (…);`, which returns no row.
    pub(super) fn insert(into: &'static str, values: &[Literal<'_>]) -> Self {
        let mut sql = format!("INSERT INTO {into} VALUES (");
        write_list(&mut sql, values);
        Self(sql)
    }

    /// Appends `next`.
    pub(super) fn then(mut self, next: Self) -> Self {
        self.0.push_str(&next.0);
        self
    }
}

fn write_list(sql: &mut String, literals: &[Literal<'_>]) {
    for (position, literal) in literals.iter().enumerate() {
        sql.push_str(if position == 0 { "" } else { "," });
        literal.write(sql);
    }
    sql.push_str(");");
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Literal<'a> {
    Null,
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Texts(&'a [String]),
}

impl<'a> Literal<'a> {
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    fn write(&self, sql: &mut String) {
        match self {
            Self::Null => sql.push_str("NULL"),
            Self::Number(number) => drop(write!(sql, "{number}")),
            Self::Text(text) => quote(sql, text),
            Self::Bytes(bytes) => {
                sql.push_str("'\\x");
                hex::push(sql, bytes);
                sql.push('\'');
            }
            Self::Texts(texts) => {
                sql.push_str("ARRAY[");
                for (position, text) in texts.iter().enumerate() {
                    sql.push_str(if position == 0 { "" } else { "," });
                    quote(sql, text);
                }
                sql.push_str("]::text[]");
            }
        }
    }
}

/// Quotes a text under `standard_conforming_strings`, the default since PostgreSQL 9.1, where only quotes must be
/// escaped. NUL, which no literal can contain, is removed; headers and IDs have none.
fn quote(sql: &mut String, text: &str) {
    sql.push('\'');
    sql.push_str(&text.replace('\0', "").replace('\'', "''"));
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_stays_a_literal() {
        let texts = ["a'b".to_owned(), "c".to_owned()];
        let arguments = [
            Literal::Text("'); DROP TABLE keys; --\\"),
            Literal::text(None),
            Literal::Number(-7),
            Literal::Bytes(&[0, 0xab]),
            Literal::Texts(&texts),
            Literal::Texts(&[]),
        ];
        assert_eq!(
            Sql::call("f", &arguments).0,
            r"SELECT f('''); DROP TABLE keys; --\',NULL,-7,'\x00ab',ARRAY['a''b','c']::text[],ARRAY[]::text[]);"
        );
        assert_eq!(Sql::call_stamped("f", &[Literal::Number(1)]).0, "SELECT f(1), auth_server();");
        let insert = Sql::insert("t (a, b)", &[Literal::Text("'"), Literal::Null]);
        assert_eq!(insert.then(Sql::call("f", &[])).0, "INSERT INTO t (a, b) VALUES ('''',NULL);SELECT f();");
    }
}
