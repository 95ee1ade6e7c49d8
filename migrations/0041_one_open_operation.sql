-- The same rows as until now, but with a condition of its own: the planner could prefer an index of the queue with the same
-- condition, and read all of it, if no operation was in progress when the table was analyzed.
DROP INDEX operations_one_open;
CREATE UNIQUE INDEX operations_one_open ON operations (resource_id) WHERE finished_at IS NULL;
