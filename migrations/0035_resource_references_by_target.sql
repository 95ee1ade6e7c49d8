-- The first resources that refer to a resource, in the order of their IDs.
CREATE INDEX resource_references_of_target ON resource_references (to_id, from_id);
DROP INDEX resource_references_by_target;
