-- Webhooks (docs/webhooks.md): where a project's events are sent, and each event on its way to each of them.

CREATE TABLE webhooks (
    id                   uuid         PRIMARY KEY,
    project_id           uuid         NOT NULL REFERENCES projects ON DELETE CASCADE,
    url                  text         NOT NULL,
    -- The types of events that are sent; all when empty.
    event_types          text[]       NOT NULL,
    description          text         NOT NULL,
    enabled              boolean      NOT NULL,
    -- Why the server disabled it; null while it is enabled, and when a client disabled it.
    disabled_reason      text         CHECK (disabled_reason IN ('gone', 'failing')),
    -- What signs what is sent, sealed under the server key with the webhook's id: it must be used again as it is, and a
    -- dump of the database must not be enough to forge events. During a rotation there are two.
    secret               bytea        NOT NULL,
    previous_secret      bytea,
    previous_expires_at  timestamptz,
    created_at           timestamptz  NOT NULL,
    -- Since when every attempt has failed, and how many that were; null and 0 after a success.
    failing_since        timestamptz,
    failures             integer      NOT NULL DEFAULT 0,
    CONSTRAINT webhooks_disabled_has_reason CHECK (NOT enabled OR disabled_reason IS NULL)
);
CREATE INDEX webhooks_by_project ON webhooks (project_id, id);

CREATE TABLE webhook_deliveries (
    id               uuid         PRIMARY KEY,
    -- Without foreign keys: the sealer shall wait for nobody who deletes a webhook, and there may be more of these than one
    -- DELETE can take along. The sweep clears away what is left of webhooks that are gone.
    webhook_id       uuid         NOT NULL,
    project_id       uuid         NOT NULL,
    -- The audit entry that the event is.
    event_id         uuid         NOT NULL,
    event_type       text         NOT NULL,
    status           text         NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    created_at       timestamptz  NOT NULL DEFAULT now(),
    -- From when on the time is counted for which it is tried: creation, or when somebody asked for it once more.
    queued_at        timestamptz  NOT NULL DEFAULT now(),
    -- When it is due; null when it is done. Whoever takes it sets it to the end of their lease, so that another takes it
    -- should they die. Always by the database's clock, which all servers share.
    next_attempt_at  timestamptz  DEFAULT now(),
    -- How many attempts were begun. Whoever has begun the last one may say what came of it, and nobody else.
    attempt          integer      NOT NULL DEFAULT 0,
    -- What came of the attempts: [{number, at, status_code, error, duration_ms}], the last 50. Never what was answered.
    attempts         jsonb        NOT NULL DEFAULT '[]',
    CONSTRAINT webhook_deliveries_due CHECK ((next_attempt_at IS NULL) = (status <> 'pending'))
-- Each attempt updates its row twice.
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- Whose turn it is: for each webhook that waits for something, what waits longest.
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id);
-- For the sweep, which forgets the oldest.
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created_at);
