//! Statements and lists that are not bounded, each with its reason. These lists should only shrink: an entry that
//! matches nothing any more fails its test.

/// Parts of statements with a scan that neither a project nor a page bounds.
pub const UNBOUNDED: &[(&str, &str)] = &[
    // Resources and operations.
    (
        "FROM (SELECT due_at FROM operations WHERE due_at IS NOT NULL ORDER BY provider",
        "at most 10,000 open operations",
    ),
    (
        "WITH RECURSIVE heads (provider, due_at) AS",
        "one probe for each provider; all open operations, if there were none",
    ),
    ("WITH ours AS MATERIALIZED", "due operations; all open operations, if there were none"),
    // Webhooks.
    ("FROM webhook_timers WHERE due_at <= now() AND webhook_id <> ALL ($1)", "skips webhooks that have no free slot"),
    ("SELECT p.project_id, w.id, w.event_types FROM unnest($1::uuid[])", "a project has at most 20 webhooks"),
    ("SELECT project_id FROM webhooks WHERE id = $1 UNION ALL", "a webhook is deleted once"),
    // Credentials.
    ("DELETE FROM auth_log WHERE seq = ANY (ARRAY(SELECT seq", "at most 1,000 invalidations"),
    ("FROM auth_clock c LEFT JOIN auth_log l ON l.seq > $2", "invalidations that the server has not read yet"),
    ("SELECT auth_server(), c.seq, l.seq, l.subject FROM auth_clock", "invalidations that the server has not read yet"),
    ("SELECT NOT EXISTS (SELECT FROM projects)", "ends at the first row"),
    ("SELECT id, email FROM users WHERE email_key IS NULL", "old rows, once after an upgrade"),
    // Audit trail.
    ("SELECT c.project_id FROM audit_chains c WHERE EXISTS", "all chains, once a month"),
    // Usage.
    ("FROM quota_states WHERE version > $2 AND version <= $3", "states that have changed"),
    (
        "SELECT DISTINCT project_id, period FROM usage_totals WHERE period <= $1",
        "a row for each server, until the month is final",
    ),
];

/// Parts of statements that read all rows of a project, user or item.
pub const WHOLE_TENANT: &[(&str, &str)] = &[
    ("SELECT $2 OR EXISTS (SELECT FROM", "ends at the first row"),
    ("SELECT EXISTS (SELECT FROM members m JOIN projects p", "ends at the first membership of a project that exists"),
    (
        "DELETE FROM webhook_timers WHERE ctid = ANY",
        "timers of a webhook, which are few, because each claim replaces them",
    ),
    ("NOT EXISTS (SELECT FROM changed_quota_states(", "a row for each server"),
    ("SELECT period FROM usage_periods WHERE project_id = $1 AND period BETWEEN", "months of a page"),
    ("SELECT sum(requests)::bigint AS requests FROM usage_totals t", "a row for each server and month of a page"),
    ("WITH deleted AS (DELETE FROM projects", "a project has at most 20 webhooks"),
    ("WITH stream AS ( SELECT kind, day, credential_id, last_day, is_month", "counters of a page's credentials"),
    ("SELECT EXISTS (SELECT FROM members WHERE project_id = $1 AND user_id <> $2", "owners of a project"),
    ("SELECT user_id FROM members WHERE project_id = $1 AND role = 'owner'", "owners of a project"),
    ("(SELECT count(*) FROM webhooks WHERE project_id = a_project)", "a project has at most 20 webhooks"),
    ("DELETE FROM resource_references WHERE from_id = $1", "a spec has few references"),
    ("SELECT to_id, from_id FROM resource_references", "the resources that use those that a spec names"),
    ("SELECT kind, maximum FROM resource_quotas WHERE project_id = $1", "a row for each kind"),
    ("ON m.project_id = p.id AND m.user_id = $1 AND m.role = 'owner'", "a command for the first project"),
    ("DELETE FROM sign_in_links WHERE user_id = $1", "links of one user, which last for an hour"),
    ("UPDATE invitations SET withdrawn_at", "invitations of one member"),
    ("UPDATE key_secrets SET expires_at", "a key has two valid secrets"),
    ("UPDATE sessions SET revoked_at = $3 WHERE user_id = $1", "revokes all other sessions of a user"),
    ("WITH moved AS ( INSERT INTO audit_anchors", "checkpoints of the removed entries"),
];

/// SQL texts that are neither executed here nor a whole statement.
pub const UNPLANNED: &[(&str, &str)] = &[
    ("SELECT pg_is_in_recovery() AS in_recovery", "reads no table; executed only while a write is in progress"),
    ("SELECT id AS project_id FROM projects WHERE created_at <", "a command that lists the usage of all projects"),
    ("FROM pg_stat_activity WHERE pid = pg_backend_pid()", "reads no table"),
    ("UPDATE resources SET conditions = $2", "one row by ID"),
    ("UPDATE sessions SET authenticated_at = $3", "one row by ID"),
    ("UPDATE resources SET phase = $2, version = version + 1 WHERE id = $1 RETURNING", "one row by ID"),
];

/// Lists with the filters for which they read too many rows.
pub const LISTS: &[(&str, &str)] = &[
    ("/v1/usage/breakdown from group_by", "counters of each day and route of a page's credentials"),
    ("/v1/usage/breakdown group_by", "counters of each day and route of a page's credentials"),
    ("/v1/usage/breakdown group_by to", "counters of each day and route of a page's credentials"),
];
