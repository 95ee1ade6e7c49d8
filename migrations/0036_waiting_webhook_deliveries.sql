-- Finds the pending deliveries of a webhook that have waited longest.
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook_id, queued_at) WHERE next_attempt_at IS NOT NULL;
