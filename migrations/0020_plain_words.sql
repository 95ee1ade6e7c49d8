-- Operations, event types and actions of the audit trail get the terms that other APIs use. Payloads of sealed entries are
-- evidence and keep the former names; the column `action`, by which they are found, has the current ones.
ALTER TABLE operations DROP CONSTRAINT operations_type_check;
UPDATE operations SET type = 'remediate' WHERE type = 'mend';
ALTER TABLE operations ADD CONSTRAINT operations_type_check CHECK (type IN (
    'create', 'update', 'delete', 'start', 'stop', 'reboot', 'attach', 'detach', 'resize', 'import', 'sync', 'remediate'));

UPDATE audit_entries SET action = 'resource.remediated' WHERE action = 'resource.mended';
UPDATE audit_entries SET action = 'audit.retention_applied' WHERE action = 'audit.trimmed';
UPDATE webhooks SET event_types = array_replace(event_types, 'resource.mended', 'resource.remediated')
WHERE 'resource.mended' = ANY (event_types);
UPDATE webhook_deliveries SET event_type = 'resource.remediated' WHERE event_type = 'resource.mended';
