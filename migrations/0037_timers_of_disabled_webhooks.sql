-- As in 0031, and fails the deliveries of disabled webhooks that have waited for the retry period: the timer of a disabled
-- webhook is due when its next delivery has waited that long. Until now, a sweep looked for them in all disabled webhooks.
DROP FUNCTION claim_webhook_deliveries;
CREATE FUNCTION claim_webhook_deliveries(a_webhooks uuid[], counts bigint[], lease interval, retry_period interval)
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
    -- A batch. The timer of a webhook that has more is due at once.
    UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL WHERE id = ANY (ARRAY(
        SELECT overdue.id FROM unnest(a_webhooks) AS turn (webhook_id)
        CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = turn.webhook_id AND NOT enabled OFFSET 0) w
        CROSS JOIN LATERAL (SELECT d.id FROM webhook_deliveries d
                            WHERE d.webhook_id = turn.webhook_id AND d.queued_at <= now() - retry_period
                              AND d.next_attempt_at IS NOT NULL
                            ORDER BY d.queued_at LIMIT 1000 FOR UPDATE SKIP LOCKED) overdue
        LIMIT 1000));
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
    -- Statements of their own, so that they see the delivery of each timer that was deleted.
    INSERT INTO webhook_timers (webhook_id, due_at)
    SELECT turn.webhook_id, first.next_attempt_at FROM unnest(a_webhooks) AS turn (webhook_id)
    CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = turn.webhook_id AND enabled OFFSET 0) w
    CROSS JOIN LATERAL (SELECT d.next_attempt_at FROM webhook_deliveries d
                        WHERE d.webhook_id = turn.webhook_id AND d.next_attempt_at IS NOT NULL
                        ORDER BY d.next_attempt_at LIMIT 1) first;
    INSERT INTO webhook_timers (webhook_id, due_at)
    SELECT turn.webhook_id, first.queued_at + retry_period FROM unnest(a_webhooks) AS turn (webhook_id)
    CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = turn.webhook_id AND NOT enabled OFFSET 0) w
    CROSS JOIN LATERAL (SELECT d.queued_at FROM webhook_deliveries d
                        WHERE d.webhook_id = turn.webhook_id AND d.next_attempt_at IS NOT NULL
                        ORDER BY d.queued_at LIMIT 1) first;
END
$$;

-- Until now, a claim removed the timers of disabled webhooks.
INSERT INTO webhook_timers (webhook_id, due_at)
SELECT w.id, now() FROM webhooks w
WHERE NOT w.enabled
  AND EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.next_attempt_at IS NOT NULL);
