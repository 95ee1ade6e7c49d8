-- For the list of deliveries with a status.
CREATE INDEX webhook_deliveries_by_status ON webhook_deliveries (webhook_id, status, id);
