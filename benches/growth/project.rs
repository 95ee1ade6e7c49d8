//! A project with its rows, and the paths of requests for its lists.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{lists::List, samples, seed::Seed, shapes::Shape, support::Result};

/// Items on a page, if the request does not say.
const PAGE: u64 = 25;
/// Number of rows before page ten thousand.
const DEEP_ROWS: u64 = (10_000 - 1) * PAGE;

/// Project with its rows.
pub struct Project {
    /// ID, as clients see it.
    id: String,
    /// Secret of a key with the scopes of all lists.
    pub key: String,
    /// Values of `$` variables and of path parameters.
    variables: BTreeMap<String, String>,
    /// Cursor of page ten thousand of each list whose cursor is the ID of a row, by path.
    pub cursors: BTreeMap<String, String>,
}

impl Project {
    /// Inserts the rows of a project, and finds the cursors of `lists`.
    pub async fn insert(db: &mut PgConnection, seed: &Seed, id: String, key: String, lists: &[List]) -> Result<Self> {
        seed.insert(db).await?;
        Ok(Self { id, key, variables: seed.variables(), cursors: deep_cursors(db, seed, lists).await? })
    }

    /// Path of a request, with the query parameters `paging`.
    pub fn path(&self, list: &List, shape: &Shape, paging: &[(&str, &str)]) -> String {
        let mut path = list.path.clone();
        for (name, value) in &self.variables {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        if list.is_in_project && !shape.with_key {
            query.append_pair("project_id", &self.id);
        }
        for (name, sample) in &shape.filters {
            let variable = sample.value.strip_prefix('$').and_then(|name| self.variables.get(name));
            query.append_pair(name, variable.unwrap_or(&sample.value));
        }
        for (name, value) in paging {
            query.append_pair(name, value);
        }
        format!("{path}?{}", query.finish())
    }
}

/// The cursors of page ten thousand, or of the middle of a list that is shorter.
async fn deep_cursors(db: &mut PgConnection, seed: &Seed, lists: &[List]) -> Result<BTreeMap<String, String>> {
    let mut cursors = BTreeMap::new();
    for list in lists {
        let (Some(rows), Some(prefix)) = (samples::rows(&list.path), &list.id_prefix) else { continue };
        let rows = seed.fill(rows);
        let sql = format!(
            "SELECT id FROM ({rows}) AS listed (id) ORDER BY id
             OFFSET (SELECT least({}, count(*) / 2) FROM ({rows}) AS counted) LIMIT 1",
            DEEP_ROWS - 1
        );
        let id: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(&mut *db).await?;
        if let Some(id) = id {
            cursors.insert(list.path.clone(), format!("{prefix}_{:x}", id.as_u128()));
        }
    }
    Ok(cursors)
}
