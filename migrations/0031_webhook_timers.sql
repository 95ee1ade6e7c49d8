-- When to look for due deliveries of a webhook: never later than its earliest pending delivery, as long as it is enabled.
-- Without it, each poll looks at every webhook with pending deliveries, and deliveries of a disabled webhook are looked at
-- until they are too old. Rows are only added and removed, and a webhook can have several, so that adding one waits for
-- nobody: the sealer adds them.
CREATE TABLE webhook_timers (
    webhook_id  uuid         NOT NULL,
    due_at      timestamptz  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX webhook_timers_due ON webhook_timers (due_at);
CREATE INDEX webhook_timers_by_webhook ON webhook_timers (webhook_id);

-- A delivery and its timer are one transaction, whoever writes the delivery.
CREATE FUNCTION set_webhook_timers_for_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_timers (webhook_id, due_at)
    SELECT webhook_id, min(next_attempt_at) FROM new_rows WHERE next_attempt_at IS NOT NULL GROUP BY webhook_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER webhook_timers AFTER INSERT ON webhook_deliveries REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION set_webhook_timers_for_new();

-- A delivery that is due later than before needs no timer: the one of the earlier time looks again.
CREATE FUNCTION set_webhook_timers_for_earlier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_timers (webhook_id, due_at)
    SELECT n.webhook_id, min(n.next_attempt_at) FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE n.next_attempt_at < o.next_attempt_at OR n.next_attempt_at IS NOT NULL AND o.next_attempt_at IS NULL
    GROUP BY n.webhook_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER webhook_timers_of_earlier AFTER UPDATE ON webhook_deliveries
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION set_webhook_timers_for_earlier();

-- The deliveries of a disabled webhook have no timers, because a claim takes them away.
CREATE FUNCTION set_webhook_timer_when_enabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_timers (webhook_id, due_at) VALUES (NEW.id, now());
    RETURN NULL;
END
$$;
CREATE TRIGGER webhook_timer_when_enabled AFTER UPDATE OF enabled ON webhooks
FOR EACH ROW WHEN (NEW.enabled AND NOT OLD.enabled) EXECUTE FUNCTION set_webhook_timer_when_enabled();

INSERT INTO webhook_timers (webhook_id, due_at)
SELECT webhook_id, min(next_attempt_at) FROM webhook_deliveries WHERE next_attempt_at IS NOT NULL GROUP BY webhook_id;

-- Claims due deliveries of these webhooks, up to the count of each, for the duration of a lease, and returns them.
-- Replaces the webhooks' timers by one each, for their earliest pending delivery. Skips what another server is claiming.
-- Everything about a delivery is read by the statement that claims it: the caller's statement may be from before the
-- event, which it would take for an event that is gone.
CREATE FUNCTION claim_webhook_deliveries(a_webhooks uuid[], counts bigint[], lease interval)
RETURNS TABLE (
    id uuid, attempt int, failures int, webhook_id uuid, project_id uuid, event_id uuid,
    url text, secret bytea, previous_secret bytea, previous_expires_at timestamptz, payload bytea
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM webhook_timers WHERE ctid = ANY (ARRAY(
        SELECT t.ctid FROM unnest(a_webhooks) AS turn (webhook_id)
        CROSS JOIN LATERAL (SELECT ctid FROM webhook_timers
                            WHERE webhook_id = turn.webhook_id FOR UPDATE SKIP LOCKED) t));
    RETURN QUERY
        WITH taken AS MATERIALIZED (
            SELECT due.id FROM unnest(a_webhooks, counts) AS turn (webhook_id, count)
            CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = turn.webhook_id AND enabled OFFSET 0) w
            CROSS JOIN LATERAL (SELECT d.id FROM webhook_deliveries d
                                WHERE d.webhook_id = turn.webhook_id AND d.next_attempt_at <= now()
                                ORDER BY d.next_attempt_at LIMIT turn.count FOR UPDATE SKIP LOCKED) due
        ), claimed AS (
            UPDATE webhook_deliveries d SET attempt = d.attempt + 1, next_attempt_at = now() + lease
            WHERE d.id = ANY (ARRAY(SELECT id FROM taken))
            RETURNING d.id, d.attempt, d.attempts, d.webhook_id, d.project_id, d.event_id
        )
        SELECT c.id, c.attempt,
               (SELECT count(*)::int FROM jsonb_array_elements(c.attempts) AS a
                WHERE a ->> 'error' IS NOT NULL AND a ->> 'cause' IS DISTINCT FROM 'server'),
               c.webhook_id, c.project_id, c.event_id, w.url, w.secret, w.previous_secret, w.previous_expires_at,
               (SELECT e.payload FROM audit_entries e WHERE e.project_id = c.project_id AND e.id = c.event_id)
        FROM claimed c CROSS JOIN LATERAL (SELECT url, secret, previous_secret, previous_expires_at
                                           FROM webhooks WHERE id = c.webhook_id OFFSET 0) w;
    -- A statement of its own, so that it sees the delivery of each timer that was deleted.
    INSERT INTO webhook_timers (webhook_id, due_at)
    SELECT turn.webhook_id, first.next_attempt_at FROM unnest(a_webhooks) AS turn (webhook_id)
    CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = turn.webhook_id AND enabled OFFSET 0) w
    CROSS JOIN LATERAL (SELECT d.next_attempt_at FROM webhook_deliveries d
                        WHERE d.webhook_id = turn.webhook_id AND d.next_attempt_at IS NOT NULL
                        ORDER BY d.next_attempt_at LIMIT 1) first;
END
$$;
