//! Statements and lists that are not bounded, each with its reason. These lists may only shrink: an entry that is no
//! longer needed fails its test.

/// Parts of statements with a scan that neither a project nor a page bounds.
pub const UNBOUNDED: &[(&str, &str)] = &[
    // The planner prefers a partial index that was empty when it was analyzed, and then reads all open rows.
    ("UPDATE operations SET status = $3, step = CASE", "TODO: all open operations, if there were none"),
    ("UPDATE operations o SET cancel_requested", "TODO: all open operations, if there were none"),
    ("saved AS ( UPDATE operations o SET fence", "TODO: all open operations, if there were none"),
    ("AS is_busy, r.settled_at FROM resources r WHERE id = ANY ($1)", "TODO: all open operations, if there were none"),
    ("WITH verdict AS ( SELECT id, CASE WHEN $3 = 'pending'", "TODO: all pending deliveries, if there were none"),
    // Lists.
    ("SELECT id, created_at, expires_at, last_used_at FROM sessions", "TODO: lists"),
    ("SELECT id, payload FROM audit_entries WHERE project_id = $3 AND is_event", "TODO: lists"),
    ("last_used_at FROM tokens WHERE project_id = $3", "TODO: lists"),
    ("FROM keys WHERE project_id = $3 AND ($4", "TODO: lists"),
    ("FROM webhook_deliveries WHERE webhook_id = $3", "TODO: lists"),
    ("coalesce(project_id = $1 AND action = $2", "TODO: lists; skips redacted entries, whose action is NULL"),
    ("FROM resources WHERE project_id = $3 AND kind = ANY ($4)", "TODO: graph"),
    ("FROM operations o JOIN resources r ON r.id = o.resource_id WHERE o.project_id = $3", "TODO: graph"),
    // Resources and operations.
    ("WITH due AS MATERIALIZED ( SELECT o.id FROM operations o", "TODO: graph; due operations of other providers"),
    ("FROM resources r WHERE provider = $1 AND kind = $2 AND phase IN", "TODO: graph; a sweep compares all resources"),
    ("SELECT id FROM resources WHERE expiry_due_at <= $1", "TODO: graph; skips protected resources"),
    ("SELECT provider_ref, id FROM resources WHERE project_id = $1 AND provider", "TODO: graph"),
    ("SELECT from_id FROM resource_references WHERE to_id = $1", "TODO: graph; may scan the primary key"),
    ("SELECT count(*), count(*) FILTER (WHERE due_at <= now())", "TODO: rest; counts all open operations"),
    // Webhooks.
    ("FROM webhooks w JOIN audit_entries e ON e.project_id = w.project_id", "TODO: rest; all webhooks for each batch"),
    ("SELECT count(*), count(*) FILTER (WHERE next_attempt_at <= now())", "TODO: rest; counts all pending deliveries"),
    ("SELECT d.id FROM webhooks w JOIN webhook_deliveries d", "TODO: rest; all pending deliveries"),
    ("SELECT project_id FROM webhooks WHERE id = $1 UNION ALL", "a webhook is deleted once"),
    // Credentials.
    ("SELECT id FROM tokens WHERE issuer_", "TODO: revoke; all tokens of an issuer"),
    ("DELETE FROM auth_log WHERE seq <= (SELECT max(seq)", "TODO: revoke; reads an hour of invalidations"),
    ("SELECT auth_server(), c.seq, l.seq, l.subject FROM auth_clock", "invalidations that the server has not read yet"),
    ("SELECT NOT EXISTS (SELECT FROM projects)", "ends at the first row"),
    ("SELECT id, email FROM users WHERE email_key IS NULL", "old rows, once after an upgrade"),
    // Audit trail.
    ("SELECT c.project_id FROM audit_chains c WHERE EXISTS", "all chains, once a month"),
    (
        "EXISTS (SELECT FROM audit_chains WHERE uncovered_since",
        "TODO: rest; ends at the first row, but may read all chains",
    ),
    // Usage.
    ("LEFT JOIN usage_periods f ON f.project_id = i.project_id", "TODO: usage"),
    ("FROM usage_journals WHERE closed_at IS NULL", "TODO: usage; reads closed journals"),
    ("DELETE FROM usage_node WHERE ctid = ANY", "TODO: usage; scans the primary key"),
    ("DELETE FROM quota_notices WHERE period < $1", "TODO: usage; scans the primary key"),
    ("SELECT project_id, period FROM usage_totals WHERE period <= $1 UNION", "TODO: usage; all projects, once a month"),
    ("SELECT p.id AS project_id, m.period, coalesce(sum(t.requests), 0)", "TODO: rest; all projects with a quota"),
    ("SELECT id AS project_id FROM projects WHERE created_at <", "a command that lists the usage of all projects"),
];

/// Parts of statements that read all rows of a project, user or item.
pub const WHOLE_TENANT: &[(&str, &str)] = &[
    ("DELETE FROM ONLY \"public\".", "TODO: revoke; foreign keys of a deleted project"),
    ("SELECT EXISTS (SELECT FROM members WHERE project_id = $1 AND user_id <> $2", "TODO: lists; all members"),
    ("SELECT user_id FROM members WHERE project_id = $1 AND role = 'owner'", "TODO: lists; all members"),
    ("LEFT JOIN (members m JOIN projects p ON p.id = m.project_id) ON m.user_id = $3", "TODO: lists"),
    ("FROM members m JOIN users u ON u.id = m.user_id WHERE m.project_id = $3", "TODO: lists"),
    ("SELECT id FROM resources WHERE project_id = $1 AND phase <> 'deleted'", "TODO: graph; skips deleted resources"),
    ("UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL WHERE webhook_id = $1", "TODO: rest"),
    ("WITH rolled AS ( -- Final whole months", "TODO: usage; all counters of the range"),
    ("SELECT EXISTS (SELECT FROM members WHERE user_id = $1 AND status = 'active')", "ends at the first active member"),
    ("(SELECT count(*) FROM webhooks WHERE project_id = a_project)", "a project has at most 20 webhooks"),
    ("DELETE FROM resource_references WHERE from_id = $1", "a spec has few references"),
    ("SELECT to_id, from_id FROM resource_references", "the resources that use those that a spec names"),
    ("SELECT kind, maximum FROM resource_quotas WHERE project_id = $1", "a row for each kind"),
    ("ON m.project_id = p.id AND m.user_id = $1 AND m.role = 'owner'", "a command for the first project"),
    ("UPDATE invitations SET withdrawn_at", "invitations of one member"),
    ("UPDATE key_secrets SET expires_at", "a key has two valid secrets"),
    ("UPDATE sessions SET revoked_at = $3 WHERE user_id = $1", "revokes all other sessions of a user"),
    ("WITH moved AS ( INSERT INTO audit_anchors", "checkpoints of the removed entries"),
];

/// SQL texts that are neither executed here nor a whole statement.
pub const UNPLANNED: &[(&str, &str)] = &[
    ("FROM pg_stat_activity WHERE pid = pg_backend_pid()", "reads no table"),
    ("UPDATE resources SET conditions = $2", "one row by ID"),
    ("UPDATE resources SET phase = $2, version = version + 1 WHERE id = $1 RETURNING", "one row by ID"),
];

/// Lists with the filters for which they read too many rows.
pub const LISTS: &[(&str, &str)] = &[
    ("/v1/audit-logs action actor", "TODO: lists"),
    ("/v1/events type", "TODO: lists"),
    ("/v1/keys status", "TODO: lists"),
    ("/v1/operations resource_id", "TODO: graph"),
    ("/v1/operations resource_id status", "TODO: graph"),
    ("/v1/operations resource_id type", "TODO: graph"),
    ("/v1/operations status", "TODO: graph"),
    ("/v1/operations status type", "TODO: graph"),
    ("/v1/operations type", "TODO: graph"),
    ("/v1/projects", "TODO: lists"),
    ("/v1/projects status", "TODO: lists"),
    ("/v1/resources", "TODO: graph"),
    ("/v1/resources kind", "TODO: graph"),
    ("/v1/resources kind label", "TODO: graph"),
    ("/v1/resources kind phase", "TODO: graph"),
    ("/v1/resources kind provider", "TODO: graph"),
    ("/v1/resources label", "TODO: graph"),
    ("/v1/resources label phase", "TODO: graph"),
    ("/v1/resources label provider", "TODO: graph"),
    ("/v1/resources phase", "TODO: graph"),
    ("/v1/resources phase provider", "TODO: graph"),
    ("/v1/resources provider", "TODO: graph"),
    ("/v1/sessions", "TODO: lists"),
    ("/v1/usage/breakdown", "TODO: usage"),
    ("/v1/usage/breakdown from", "TODO: usage"),
    ("/v1/usage/breakdown from group_by", "TODO: usage"),
    ("/v1/usage/breakdown group_by", "TODO: usage"),
    ("/v1/usage/breakdown group_by to", "TODO: usage"),
    ("/v1/usage/breakdown to", "TODO: usage"),
    ("/v1/users role", "TODO: lists"),
    ("/v1/webhooks/{webhook_id}/deliveries status", "TODO: lists"),
];
