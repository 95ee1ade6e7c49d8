-- Each list of resources reads one index, whatever else is in the table.

CREATE INDEX resources_live ON resources (project_id, id) WHERE phase <> 'deleted';
-- The columns between the first one and the id have few values: a list merges the resources of each combination.
CREATE INDEX resources_by_group ON resources (project_id, phase, kind, provider, id);
DROP INDEX resources_by_project;
DROP INDEX resources_by_label;

-- Without protected resources, which stay after they expired.
CREATE INDEX resources_to_expire ON resources (expiry_due_at)
    WHERE expiry_due_at IS NOT NULL AND phase <> 'deleted' AND NOT protection;
DROP INDEX resources_expiring;

-- Sweeps read resources_one_per_object: a resource without an object has nothing to compare.
DROP INDEX resources_by_provider;
