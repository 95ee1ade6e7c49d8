-- Pairs of filters have an index. Entries of one actor or target are merged from those of each of its actions, which are
-- few, so that sealing maintains one more index instead of three.
CREATE INDEX audit_entries_by_actor_action ON audit_entries (project_id, actor_id, action, id)
    WHERE actor_id IS NOT NULL AND action IS NOT NULL;
CREATE INDEX audit_entries_by_target_action ON audit_entries (project_id, target_id, action, id)
    WHERE target_id IS NOT NULL AND action IS NOT NULL;
CREATE INDEX audit_entries_by_target_actor ON audit_entries (project_id, target_id, actor_id, id)
    WHERE target_id IS NOT NULL AND actor_id IS NOT NULL;
DROP INDEX audit_entries_by_actor, audit_entries_by_target;
-- Not partial, because the planner prefers the primary key to a partial index where it assumes that most entries are events.
CREATE INDEX audit_entries_by_event ON audit_entries (project_id, is_event, id);
DROP INDEX audit_entries_events;
-- Without redacted entries, whose action is null.
DROP INDEX audit_entries_by_action;
CREATE INDEX audit_entries_by_action ON audit_entries (project_id, action, id) WHERE action IS NOT NULL;
