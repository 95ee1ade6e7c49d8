//! Stamps of reads: the server that a read ran on, and its snapshot's position. A read that decides whether a
//! credential is accepted is valid only on the server that commits this node's heartbeats, and only if its snapshot
//! includes everything that the node has applied (docs/revocation.md).

use std::{fmt, sync::Arc};

use sqlx::{FromRow, Row, postgres::PgRow};

/// Identity of a running PostgreSQL server, from `auth_server()`. A restart and a promotion change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerId(Arc<str>);

impl From<String> for ServerId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl ServerId {
    /// The identity as text, for a query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Server and position that a statement ran at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Server.
    pub server: ServerId,
    /// `auth_clock.seq` in the statement's snapshot.
    pub seq: i64,
}

/// Value with the stamp of the statement that read it.
#[derive(Clone, Debug)]
pub struct Stamped<T> {
    /// Stamp.
    pub stamp: Stamp,
    /// Value.
    pub value: T,
}

impl FromRow<'_, PgRow> for Stamp {
    /// Reads the columns `auth_server` and `auth_seq`.
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let server: String = row.try_get("auth_server")?;
        Ok(Self { server: server.into(), seq: row.try_get("auth_seq")? })
    }
}

impl<T: for<'r> FromRow<'r, PgRow>> FromRow<'_, PgRow> for Stamped<Option<T>> {
    /// Reads the stamp and, if the column `is_found` is true, the value.
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let is_found: bool = row.try_get("is_found")?;
        let value = is_found.then(|| T::from_row(row)).transpose()?;
        Ok(Self { stamp: Stamp::from_row(row)?, value })
    }
}

impl<T> Stamped<Option<T>> {
    /// Collects the values of one statement, whose rows have the same stamp.
    pub fn collect(rows: Vec<Self>) -> sqlx::Result<Stamped<Vec<T>>> {
        let stamp = rows.first().map(|row| row.stamp.clone()).ok_or(sqlx::Error::RowNotFound)?;
        Ok(Stamped { stamp, value: rows.into_iter().filter_map(|row| row.value).collect() })
    }
}
