-- Deleting a project removes its row. What was in it is dead from then on, because every lookup joins the project, and is
-- removed in batches by the worker `purge`. Until now, foreign keys removed everything in the request.
ALTER TABLE members DROP CONSTRAINT members_project_id_fkey;
ALTER TABLE keys DROP CONSTRAINT keys_project_id_fkey;
ALTER TABLE tokens DROP CONSTRAINT tokens_project_id_fkey;
ALTER TABLE invitations DROP CONSTRAINT invitations_project_id_fkey;
ALTER TABLE webhooks DROP CONSTRAINT webhooks_project_id_fkey;
ALTER TABLE resources DROP CONSTRAINT resources_project_id_fkey;
ALTER TABLE operations DROP CONSTRAINT operations_project_id_fkey;
ALTER TABLE resource_quotas DROP CONSTRAINT resource_quotas_project_id_fkey;
ALTER TABLE resource_counts DROP CONSTRAINT resource_counts_project_id_fkey;

-- Nothing is added to a deleted project. The lock is the one that a foreign key takes: a deletion waits for additions in
-- progress, and an addition for a deletion. Tokens are left out: whoever issues one is dead, and so is the token.
CREATE FUNCTION require_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM projects WHERE id = NEW.project_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = 'the project does not exist', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
-- Invitations, operations and counts are added together with one of these.
CREATE TRIGGER members_project BEFORE INSERT ON members FOR EACH ROW EXECUTE FUNCTION require_project();
CREATE TRIGGER keys_project BEFORE INSERT ON keys FOR EACH ROW EXECUTE FUNCTION require_project();
CREATE TRIGGER webhooks_project BEFORE INSERT ON webhooks FOR EACH ROW EXECUTE FUNCTION require_project();
CREATE TRIGGER resources_project BEFORE INSERT ON resources FOR EACH ROW EXECUTE FUNCTION require_project();

-- What was deleted and has rows left.
CREATE TABLE purges (
    kind    text         NOT NULL CHECK (kind IN ('project', 'webhook')),
    id      uuid         NOT NULL,
    -- When to remove the next rows.
    due_at  timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, id)
);
CREATE INDEX purges_due ON purges (due_at);

-- Removes up to `a_limit` rows. Returns 0 if there is nothing to do now, so that callers repeat it until then. Waits for no
-- lock. Rows that are removed stay in the table until it is vacuumed; only an index scan does not read them again.
CREATE FUNCTION purge_some(a_limit int) RETURNS int LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    a_kind text;
    an_id uuid;
    a_table text;
    removed int;
    is_left boolean := false;
BEGIN
    SELECT kind, id INTO a_kind, an_id FROM purges WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOREACH a_table IN ARRAY CASE a_kind
        WHEN 'webhook' THEN ARRAY['webhook_deliveries']
        ELSE ARRAY['tokens', 'keys', 'invitations', 'members', 'operations', 'resources', 'resource_quotas', 'resource_counts']
    END LOOP
        EXECUTE format(
            'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM %1$I WHERE %2$I = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))', a_table, a_kind || '_id')
        USING an_id, a_limit;
        GET DIAGNOSTICS removed = ROW_COUNT;
        IF removed > 0 THEN
            RETURN removed;
        END IF;
        EXECUTE format('SELECT $2 OR EXISTS (SELECT FROM %I WHERE %I = $1)', a_table, a_kind || '_id')
        INTO is_left USING an_id, is_left;
    END LOOP;
    IF is_left THEN
        -- Every row that is left is locked.
        UPDATE purges SET due_at = now() + interval '1 minute' WHERE kind = a_kind AND id = an_id;
    ELSE
        DELETE FROM purges WHERE kind = a_kind AND id = an_id;
    END IF;
    RETURN 1;
END
$$;
