//! Values of the filters, and the rows of the lists.

/// Value of a filter.
#[derive(Clone)]
pub struct Sample {
    /// How many rows match, as in [`FREQUENCIES`]; empty if unknown.
    pub frequency: &'static str,
    /// Value, or `$` and the name of a variable of the project.
    pub value: String,
}

impl Sample {
    /// Value with an unknown number of matches.
    pub fn unclassified(value: &str) -> Self {
        Self { frequency: "", value: value.to_owned() }
    }
}

/// How many rows match a value in the large project:
///
/// - `many`: a quarter or more.
/// - `disjoint`: a fifth or more, but none together with `many` of another filter.
/// - `few`: about 20, fewer than a page, over the whole list. `few` of all filters are the same rows, except for time
///   ranges, where they are at one end.
/// - `none`: no row.
const FREQUENCIES: [&str; 4] = ["many", "disjoint", "few", "none"];

/// Values of each filter, in the order of [`FREQUENCIES`]. Empty: the filter has no such value.
const VALUES: &[(&str, &str, [&str; 4])] = &[
    ("/v1/audit-logs", "action", ["key.updated", "key.created", "key.rotated", "key.revoked"]),
    ("/v1/audit-logs", "actor", ["usr_aa", "usr_bb", "usr_cc", "usr_dd"]),
    ("/v1/audit-logs", "from", ["$from_many", "", "$from_few", "$from_none"]),
    ("/v1/audit-logs", "target", ["key_aa", "key_bb", "key_cc", "key_dd"]),
    ("/v1/audit-logs", "to", ["$to_many", "", "$to_few", "$to_none"]),
    ("/v1/events", "type", ["key.updated", "key.created", "key.rotated", "key.revoked"]),
    ("/v1/keys", "name", ["key", "", "rare", "no such name"]),
    ("/v1/keys", "status", ["active", "", "expired", "revoked"]),
    ("/v1/operations", "resource_id", ["$resource_many", "$resource_disjoint", "$resource_few", "$resource_none"]),
    ("/v1/operations", "status", ["succeeded", "failed", "canceled", "running"]),
    ("/v1/operations", "type", ["update", "start", "resize", "import"]),
    ("/v1/projects", "status", ["active", "", "suspended", "archived"]),
    ("/v1/resources", "kind", ["storage.volume", "compute.instance", "network.network", ""]),
    ("/v1/resources", "label", ["side=even", "side=odd", "rare", "side=none"]),
    ("/v1/resources", "phase", ["active", "failed", "updating", "pending"]),
    ("/v1/resources", "provider", ["north", "south", "west", "east"]),
    ("/v1/resources", "refers_to", ["", "", "", "$resource_none"]),
    ("/v1/tokens", "issuer", ["$key_many", "", "$key_few", "key_dd"]),
    ("/v1/tokens", "status", ["active", "", "expired", "revoked"]),
    ("/v1/tokens", "name", ["token", "", "rare", "no such name"]),
    // Not filters but ranges and groups: they differ in the number of counters and of groups.
    ("/v1/usage/breakdown", "from", ["$first_day", "", "$month", ""]),
    ("/v1/usage/breakdown", "group_by", ["key,route", "day", "route", "token"]),
    ("/v1/usage/breakdown", "key_id", ["$key_many", "", "", "key_1"]),
    ("/v1/usage/breakdown", "to", ["$today", "", "$month", ""]),
    ("/v1/usage/breakdown", "token_id", ["", "", "", "tok_1"]),
    ("/v1/users", "email", ["member", "", "rare", "nobody"]),
    ("/v1/users", "role", ["viewer", "", "admin", "member"]),
    ("/v1/webhooks/{webhook_id}/deliveries", "status", ["delivered", "", "failed", "pending"]),
];

/// The values of a filter.
pub fn of(path: &str, parameter: &str) -> Vec<Sample> {
    let found = VALUES.iter().find(|(list, name, _)| *list == path && *name == parameter);
    found
        .into_iter()
        .flat_map(|(_, _, values)| FREQUENCIES.into_iter().zip(values))
        .filter(|(_, value)| !value.is_empty())
        .map(|(frequency, value)| Sample { frequency, value: (*value).to_owned() })
        .collect()
}

/// The IDs of each list's rows that its cursor can name. Pages of a list that is not here are read to find a cursor.
const ROWS: &[(&str, &str)] = &[
    ("/v1/audit-logs", "SELECT id FROM audit_entries WHERE project_id = '{project}'"),
    ("/v1/audit-logs/checkpoints", "SELECT id FROM audit_checkpoints WHERE project_id = '{project}'"),
    ("/v1/events", "SELECT id FROM audit_entries WHERE project_id = '{project}' AND is_event"),
    ("/v1/keys", "SELECT id FROM keys WHERE project_id = '{project}'"),
    ("/v1/operations", "SELECT id FROM operations WHERE project_id = '{project}'"),
    ("/v1/projects", "SELECT project_id FROM members WHERE user_id = '{user}'"),
    ("/v1/resources", "SELECT id FROM resources WHERE project_id = '{project}'"),
    ("/v1/sessions", "SELECT id FROM sessions WHERE user_id = '{user}'"),
    ("/v1/tokens", "SELECT id FROM tokens WHERE project_id = '{project}'"),
    ("/v1/users", "SELECT public_id FROM members WHERE project_id = '{project}'"),
    ("/v1/webhooks", "SELECT id FROM webhooks WHERE project_id = '{project}'"),
    ("/v1/webhooks/{webhook_id}/deliveries", "SELECT id FROM webhook_deliveries WHERE project_id = '{project}'"),
];

/// The query for the IDs of a list's rows, if its cursor is one of them.
pub fn rows(path: &str) -> Option<&'static str> {
    ROWS.iter().find(|(list, _)| *list == path).map(|(_, sql)| *sql)
}
