//! SQL that inserts the rows of a project. In braces: numbers of rows, and values of [`crate::seed::Seed`]. Row number
//! `n` is the same in all tables:
//!
//! - `n % {few_…} = 7` are the rows that match the value `few` of each filter.
//! - Of the others, even rows match `many`, and odd rows match `disjoint`.

/// Name of what is inserted, and SQL.
type Statement = (&'static str, &'static str);

/// Functions of the connection.
pub const FUNCTIONS: &[Statement] = &[
    (
        "IDs",
        // A UUIDv7: the time, the version and variant, the project's number, and the row's number.
        "CREATE OR REPLACE FUNCTION pg_temp.row_id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
             SELECT (lpad(to_hex({start} + n * {step}), 12, '0') || '70008' || lpad(to_hex({number}), 3, '0')
                     || lpad(to_hex(n), 12, '0'))::uuid
         $$",
    ),
    (
        "times",
        "CREATE OR REPLACE FUNCTION pg_temp.row_time(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
             SELECT to_timestamp(({start} + n * {step}) / 1000.0)
         $$",
    ),
    (
        "formatted times",
        r#"CREATE OR REPLACE FUNCTION pg_temp.row_time_text(n bigint) RETURNS text LANGUAGE sql STABLE AS $$
               SELECT to_char(pg_temp.row_time(n) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
           $$"#,
    ),
];

/// Rows of the owner.
pub const OF_USER: &[Statement] = &[
    (
        "projects",
        // Created now, because each past month of a project would have to become final.
        "INSERT INTO projects (id, name, status, created_at)
         SELECT pg_temp.row_id(n), 'Project ' || n, CASE WHEN n % {few_projects} = 7 THEN 'suspended' ELSE 'active' END, now()
         FROM generate_series(0::bigint, {projects} - 1) AS n",
    ),
    (
        "memberships of the owner",
        "INSERT INTO members (project_id, user_id, role, created_at)
         SELECT pg_temp.row_id(n), '{user}'::uuid, 'viewer', now() FROM generate_series(0::bigint, {projects} - 1) AS n",
    ),
    (
        "sessions",
        // The older half was not used for longer than the idle timeout.
        "INSERT INTO sessions (id, user_id, secret_hash, created_at, expires_at, last_used_at)
         SELECT pg_temp.row_id(n), '{user}'::uuid, sha256(uuid_send(pg_temp.row_id(n))), pg_temp.row_time(n),
                pg_temp.row_time(n) + interval '30 days', CASE WHEN n >= {sessions} / 2 THEN now() END
         FROM generate_series(0::bigint, {sessions} - 1) AS n",
    ),
];

/// Rows of the project.
pub const OF_PROJECT: &[Statement] = &[
    (
        "keys",
        "WITH made AS (
             INSERT INTO keys (id, project_id, name, scopes, created_by, created_at, expires_at, hint)
             SELECT pg_temp.row_id(n), '{project}'::uuid, CASE WHEN n % {few_keys} = 7 THEN 'rare ' ELSE '' END || 'key ' || n, ARRAY['users:read', 'tokens:introspect'], '{user}'::uuid,
                    pg_temp.row_time(n), CASE WHEN n % {few_keys} = 7 THEN pg_temp.row_time(n) + interval '1 second' END,
                    'sk_live_xxxx'
             FROM generate_series(0::bigint, {keys} - 1) AS n
             RETURNING id, created_at
         )
         INSERT INTO key_secrets (secret_hash, key_id, created_at) SELECT sha256(uuid_send(id)), id, created_at FROM made",
    ),
    (
        "tokens",
        "INSERT INTO tokens (id, project_id, secret_hash, hint, name, scopes, issuer_key_id, depth, created_at, expires_at)
         SELECT pg_temp.row_id(n), '{project}'::uuid, sha256(uuid_send(pg_temp.row_id(n))), 'cap_xxxx',
                CASE WHEN n % {few_tokens} = 7 THEN 'rare ' ELSE '' END || 'token ' || n,
                ARRAY['users:read'], CASE WHEN n % {few_tokens} = 7 THEN pg_temp.row_id(7) WHEN n % 2 = 0 THEN pg_temp.row_id(0)
                ELSE pg_temp.row_id(n % {keys}) END, 1, pg_temp.row_time(n), now() + interval '30 days'
         FROM generate_series(0::bigint, {tokens} - 1) AS n",
    ),
    (
        "users",
        "INSERT INTO users (id, email, email_key, created_at)
         SELECT pg_temp.row_id(n), address, address, pg_temp.row_time(n)
         FROM generate_series(0::bigint, {members} - 1) AS n
         CROSS JOIN LATERAL (
             SELECT CASE WHEN n % {few_members} = 7 THEN 'rare-' ELSE '' END || 'member-{number}-' || n || '@example.com' AS address) AS made",
    ),
    (
        "members",
        "INSERT INTO members (project_id, user_id, role, created_at)
         SELECT '{project}'::uuid, pg_temp.row_id(n), CASE WHEN n % {few_members} = 7 THEN 'admin' ELSE 'viewer' END,
                pg_temp.row_time(n)
         FROM generate_series(0::bigint, {members} - 1) AS n",
    ),
    (
        "resources",
        // No server has these providers, so no sweep looks for the objects.
        r#"INSERT INTO resources (id, project_id, kind, provider, name, labels, spec, observed_generation, phase, power,
                                  desired_power, provider_ref, protection, reconcile, created_at, deleted_at)
           SELECT pg_temp.row_id(n), '{project}'::uuid, kind,
                  CASE WHEN is_few THEN 'west' WHEN n % 2 = 0 THEN 'north' ELSE 'south' END,
                  'resource-' || n,
                  jsonb_build_object('side', CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'number', n::text)
                      || CASE WHEN is_few THEN '{"rare": "yes"}'::jsonb ELSE '{}'::jsonb END,
                  CASE kind WHEN 'storage.volume' THEN '{"size_gib": 20}'::jsonb
                            WHEN 'network.network' THEN '{"cidr": "10.0.0.0/16"}'::jsonb
                            ELSE '{"size": "small", "image": "debian-12", "volumes": []}'::jsonb END,
                  1, phase, power, power, 'object-{number}-' || n, false, 'observe', pg_temp.row_time(n),
                  CASE WHEN phase = 'deleted' THEN pg_temp.row_time(n) + interval '1 minute' END
           FROM generate_series(0::bigint, {resources} - 1) AS n
           CROSS JOIN LATERAL (SELECT n % {few_resources} = 7 AS is_few) AS classified
           CROSS JOIN LATERAL (
               SELECT CASE WHEN is_few THEN 'network.network' WHEN n % 2 = 0 THEN 'storage.volume'
                           ELSE 'compute.instance' END AS kind,
                      CASE WHEN is_few OR n % 2 = 0 THEN NULL ELSE 'on' END AS power,
                      CASE WHEN n < {deleted} THEN 'deleted' WHEN is_few THEN 'updating' WHEN n % 2 = 0 THEN 'active'
                           ELSE 'failed' END AS phase
           ) AS made"#,
    ),
    (
        "numbers of resources",
        "INSERT INTO resource_counts (project_id, kind, count)
         SELECT project_id, kind, count(*) FROM resources WHERE project_id = '{project}' AND phase <> 'deleted' GROUP BY 1, 2
         ON CONFLICT (project_id, kind) DO UPDATE SET count = excluded.count",
    ),
    (
        "operations",
        // All have ended, so that no worker claims them. Three live resources have many, many and few of them, one has
        // none, and the others have the rest.
        r#"INSERT INTO operations (id, project_id, resource_id, resource_kind, provider, type, status, step, progress, error,
                                   created_at, started_at, finished_at, deadline, due_at)
           SELECT pg_temp.row_id(n), '{project}'::uuid, of.id, of.kind, of.provider,
                  CASE WHEN is_few THEN 'resize' WHEN n % 2 = 0 THEN 'update' ELSE 'start' END,
                  status, 'done', 100,
                  CASE WHEN status = 'failed'
                       THEN '{"code": "failed", "detail": "The provider failed", "provider_code": null}'::jsonb END,
                  pg_temp.row_time(n), pg_temp.row_time(n), pg_temp.row_time(n) + interval '1 minute',
                  pg_temp.row_time(n) + interval '15 minutes', NULL
           FROM generate_series(0::bigint, {operations} - 1) AS n
           CROSS JOIN LATERAL (SELECT n % {few_operations} = 7 AS is_few) AS classified
           CROSS JOIN LATERAL (
               SELECT CASE WHEN is_few THEN 'canceled' WHEN n % 2 = 0 THEN 'succeeded' ELSE 'failed' END AS status
           ) AS made
           JOIN resources AS of
             ON of.id = pg_temp.row_id({deleted} + CASE WHEN is_few THEN 2 WHEN n % 4 = 0 THEN 0 WHEN n % 4 = 1 THEN 1
                                                       ELSE 4 + n % ({live} - 4) END)"#,
    ),
    (
        "webhooks",
        // Disabled, so that new events are not sent. The secrets are not used.
        r"INSERT INTO webhooks (id, project_id, url, event_types, description, enabled, secret, created_at)
          SELECT pg_temp.row_id(n), '{project}'::uuid, 'https://receiver.example/' || n, '{}'::text[], 'webhook ' || n, false,
                 '\x00'::bytea, pg_temp.row_time(n)
          FROM generate_series(0::bigint, 9) AS n",
    ),
    (
        "deliveries",
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type, status, created_at, queued_at,
                                         next_attempt_at, attempt, attempts)
         SELECT pg_temp.row_id(n), pg_temp.row_id(0), '{project}'::uuid, pg_temp.row_id(n), 'key.updated',
                CASE WHEN is_few THEN 'failed' ELSE 'delivered' END, pg_temp.row_time(n), pg_temp.row_time(n), NULL, 1,
                jsonb_build_array(jsonb_build_object(
                    'number', 1, 'at', pg_temp.row_time_text(n), 'status_code', CASE WHEN is_few THEN 500 ELSE 200 END,
                    'error', CASE WHEN is_few THEN 'unsuccessful_status' END, 'cause', CASE WHEN is_few THEN 'receiver' END,
                    'duration_ms', 12))
         FROM generate_series(0::bigint, {deliveries} - 1) AS n
         CROSS JOIN LATERAL (SELECT n % {few_deliveries} = 7 AS is_few) AS classified",
    ),
    (
        "numbers of later audit entries",
        "UPDATE audit_entries SET seq = seq + {entries} WHERE project_id = '{project}'",
    ),
    (
        "end of the audit chain",
        "INSERT INTO audit_chains (project_id, seq, hash, latest_by, earliest_by, uncovered)
         VALUES ('{project}', {entries}, decode(repeat('00', 32), 'hex'), 0, 0, 0)
         ON CONFLICT (project_id) DO UPDATE SET seq = audit_chains.seq + excluded.seq",
    ),
    (
        "audit entries",
        // As the sealer inserts them, except for their hashes, which reads do not use.
        r#"INSERT INTO audit_entries (project_id, id, seq, payload, salt, payload_hash, prev_hash, hash, action, actor_id,
                                      target_id, is_event)
           SELECT '{project}'::uuid, pg_temp.row_id(n), n + 1,
                  convert_to(format('{"action":"%s","actor":%s,"changes":{"name":["before","after"],"scopes":[["users:read"],["users:read","usage:read"]]},"id":"aud_%s","occurred_at":"%s","outcome":"success","project_id":"{project_text}","request_id":"req_1","seq":%s,"source_ip":"203.0.113.9","target":%s,"traceparent":null,"user_agent":"ci/1"}',
                      action,
                      coalesce('{"credential_id":"sess_1","id":"' || actor || '","type":"user"}',
                               '{"credential_id":null,"id":null,"type":"system"}'),
                      ltrim(replace(pg_temp.row_id(n)::text, '-', ''), '0'), pg_temp.row_time_text(n), n + 1,
                      coalesce('{"id":"' || target || '","type":"key"}', 'null')), 'UTF8'),
                  decode(repeat('00', 16), 'hex'), zeros, zeros, zeros, action, actor, target, action <> 'audit.read'
           FROM generate_series(0::bigint, {entries} - 1) AS n
           CROSS JOIN LATERAL (
               SELECT decode(repeat('00', 32), 'hex') AS zeros,
                      CASE WHEN n % {few_entries} = 7 THEN 'few' WHEN n % 20 = 3 THEN 'checkpoint'
                           WHEN n % 20 = 9 THEN 'read' WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END AS class
           ) AS classified
           CROSS JOIN LATERAL (
               SELECT CASE class WHEN 'few' THEN 'key.rotated' WHEN 'checkpoint' THEN 'audit.checkpoint'
                                 WHEN 'read' THEN 'audit.read' WHEN 'even' THEN 'key.updated' ELSE 'key.created' END AS action,
                      CASE class WHEN 'few' THEN 'usr_cc' WHEN 'checkpoint' THEN NULL WHEN 'even' THEN 'usr_aa'
                                 ELSE 'usr_bb' END AS actor,
                      CASE WHEN class = 'few' THEN 'key_cc' WHEN class IN ('checkpoint', 'read') THEN NULL
                           WHEN n % 4 = 0 THEN 'key_aa' WHEN n % 4 = 1 THEN 'key_bb'
                           ELSE 'key_' || to_hex(n + 4096) END AS target
           ) AS made"#,
    ),
    (
        "checkpoints",
        "INSERT INTO audit_checkpoints (project_id, id, seq, hash, made_at, public_key, signature)
         SELECT project_id, id, seq, hash, now(), decode(repeat('00', 32), 'hex'), decode(repeat('00', 64), 'hex')
         FROM audit_entries WHERE project_id = '{project}' AND action = 'audit.checkpoint' AND seq <= {entries}",
    ),
    ("creation time", "UPDATE projects SET created_at = '{first_day}'::date WHERE id = '{project}'"),
    ("usage journal", "SELECT open_usage_journal(pg_temp.row_id(0), now())"),
    (
        "daily counters",
        "INSERT INTO usage_node (project_id, day, credential_id, kind, route, journal, n)
         SELECT '{project}'::uuid, day::date, pg_temp.row_id(credential), 2, r.id, j.id, 1 + credential % 100
         FROM generate_series('{first_day}'::timestamp, '{today}'::timestamp, interval '1 day') AS day
         CROSS JOIN generate_series(0::bigint, {credentials} - 1) AS credential
         CROSS JOIN (SELECT id FROM usage_routes ORDER BY id LIMIT 2) AS r
         CROSS JOIN (SELECT id FROM usage_journals WHERE journal = pg_temp.row_id(0)) AS j
         ORDER BY day",
    ),
    (
        "sums of daily counters",
        "INSERT INTO usage_days (project_id, day, kind, route, journal, n)
         SELECT project_id, day, kind, route, journal, sum(n) FROM usage_node WHERE project_id = '{project}'
         GROUP BY 1, 2, 3, 4, 5 ON CONFLICT DO NOTHING",
    ),
    ("end of the usage journal", "UPDATE usage_journals SET closed_at = now() WHERE journal = pg_temp.row_id(0)"),
    (
        "monthly totals",
        "INSERT INTO usage_totals (project_id, period, journal, requests)
         SELECT project_id, date_trunc('month', day)::date, journal, sum(n) FROM usage_node WHERE project_id = '{project}'
         GROUP BY 1, 2, 3 ON CONFLICT DO NOTHING",
    ),
];
