-- Lists of operations, and the queue, read one index each, whatever else is in the table (docs/pagination.md). The kind and the
-- provider of an operation's resource never change.

ALTER TABLE operations ADD COLUMN resource_kind text, ADD COLUMN provider text;
UPDATE operations o SET resource_kind = r.kind, provider = r.provider FROM resources r WHERE r.id = o.resource_id;
ALTER TABLE operations ALTER COLUMN resource_kind SET NOT NULL, ALTER COLUMN provider SET NOT NULL;

-- The columns between the first one and the id have few values: a list merges the operations of each combination.
CREATE INDEX operations_by_group ON operations (project_id, status, type, resource_kind, id);
CREATE INDEX operations_of_resource ON operations (resource_id, status, type, id);
DROP INDEX operations_by_project;
DROP INDEX operations_by_resource;

-- For servers that have the provider, and for operations that no server continues.
CREATE INDEX operations_due_at_provider ON operations (provider, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX operations_by_deadline ON operations (deadline) WHERE due_at IS NOT NULL;
DROP INDEX operations_due;

-- When the first operation is due, found with one probe for each provider.
CREATE FUNCTION first_operation_due() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    WITH RECURSIVE heads (provider, due_at) AS (
        (SELECT provider, due_at FROM operations WHERE due_at IS NOT NULL ORDER BY provider, due_at LIMIT 1)
        UNION ALL
        SELECT n.provider, n.due_at FROM heads h CROSS JOIN LATERAL (
            SELECT provider, due_at FROM operations WHERE due_at IS NOT NULL AND provider > h.provider
            ORDER BY provider, due_at LIMIT 1) n)
    SELECT min(due_at) FROM heads
$$;
