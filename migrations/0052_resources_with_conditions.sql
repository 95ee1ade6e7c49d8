-- Resources that need attention, for the overview of a project. Few resources have a condition. The time of creation is in
-- the index so that only this index has the order of the query, whatever the planner knows.
CREATE INDEX resources_with_conditions ON resources (project_id, created_at, id)
    WHERE conditions <> '[]' AND phase <> 'deleted';
