-- The audit trail as evidence (docs/audit.md). A write stages its entry in its own transaction; one sealer at a time
-- links what was staged into its project's chain. Entries that belong to no project, such as sign-ins and the operator's
-- commands, form the deployment's chain, whose project is nil.

-- What was done and is not linked yet. Without foreign keys: a project's trail outlives it.
CREATE TABLE audit_staged (
    -- All rows of transactions before the oldest one still running are visible, so the sealer knows from where on to
    -- look without ever missing one that is committed late.
    xact        xid8    NOT NULL DEFAULT pg_current_xact_id(),
    position    bigint  GENERATED ALWAYS AS IDENTITY,
    project_id  uuid    NOT NULL,
    -- The entry as canonical JSON, without what the sealer adds to it.
    entry       text    NOT NULL,
    PRIMARY KEY (xact, position)
-- Rows live for a moment; what they leave behind has to be cleared away often.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Stages an entry in a write that is one statement, if it was done.
CREATE FUNCTION stage_entry(outcome text, a_project uuid, an_entry text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF outcome = 'done' THEN
        INSERT INTO audit_staged (project_id, entry) VALUES (a_project, an_entry);
    END IF;
    RETURN outcome;
END
$$;

-- The linked entries. Ids strictly increase in the order in which they become visible, over all chains, so that who
-- has read up to one has missed none.
CREATE TABLE audit_entries (
    project_id    uuid    NOT NULL,
    id            uuid    NOT NULL,
    seq           bigint  NOT NULL,
    -- Canonical JSON (RFC 8785), the id and the number in it. With its salt it is deleted when it is redacted; the chain
    -- goes on without it.
    payload       bytea,
    salt          bytea,
    -- SHA-256 of the salt and the payload.
    payload_hash  bytea   NOT NULL,
    prev_hash     bytea   NOT NULL,
    -- SHA-256 of prev_hash, project, seq (8 bytes, big-endian) and payload_hash.
    hash          bytea   NOT NULL,
    -- What lists are filtered by: the payload's own words, and gone when it is. Written by the sealer and compared by
    -- whoever verifies, because to have them generated costs as much as all the rest of the insertion.
    action        text,
    actor_id      text,
    target_id     text,
    -- Whether it is shown as an event, too.
    is_event      boolean NOT NULL,
    PRIMARY KEY (project_id, id),
    CONSTRAINT audit_entries_redacted_whole CHECK (
        (payload IS NULL) = (salt IS NULL) AND (payload IS NULL) = (action IS NULL)
        AND (payload IS NOT NULL OR (actor_id IS NULL AND target_id IS NULL)))
);
-- Events are followed through all projects at once.
CREATE UNIQUE INDEX audit_entries_by_id ON audit_entries (id);
CREATE INDEX audit_entries_by_action ON audit_entries (project_id, action, id);
CREATE INDEX audit_entries_by_actor ON audit_entries (project_id, actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_entries_by_target ON audit_entries (project_id, target_id, id) WHERE target_id IS NOT NULL;
CREATE INDEX audit_entries_events ON audit_entries (project_id, id) WHERE is_event;

-- Where each chain ends.
CREATE TABLE audit_chains (
    project_id      uuid         PRIMARY KEY,
    seq             bigint       NOT NULL,
    hash            bytea        NOT NULL,
    -- How much later and earlier than an entry's `occurred_at` the time in its id has ever been, in milliseconds: between
    -- which ids to look for a span of time.
    latest_by       bigint       NOT NULL,
    earliest_by     bigint       NOT NULL,
    -- Entries that no checkpoint covers, checkpoints' own not counted, and since when there are any.
    uncovered       bigint       NOT NULL,
    uncovered_since timestamptz
) WITH (fillfactor = 50);
-- Looked for ten times a second: the chains of which a checkpoint is due.
CREATE INDEX audit_chains_uncovered ON audit_chains (uncovered_since) WHERE uncovered_since IS NOT NULL;

-- What the chains' ends were at some time, signed (Ed25519), so that a copy held elsewhere shows a chain that was cut or
-- made anew.
CREATE TABLE audit_checkpoints (
    project_id  uuid         NOT NULL,
    id          uuid         NOT NULL,
    seq         bigint       NOT NULL,
    hash        bytea        NOT NULL,
    made_at     timestamptz  NOT NULL,
    public_key  bytea        NOT NULL,
    signature   bytea        NOT NULL,
    PRIMARY KEY (project_id, id)
);

-- What retention has removed ends in an anchor, which is signed like a checkpoint: the rest begins after it.
CREATE TABLE audit_anchors (
    project_id  uuid         PRIMARY KEY,
    seq         bigint       NOT NULL,
    hash        bytea        NOT NULL,
    made_at     timestamptz  NOT NULL,
    public_key  bytea        NOT NULL,
    signature   bytea        NOT NULL
);

-- The id given last, below which none is given again.
CREATE TABLE audit_sealer (
    only_row  boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    last_id   uuid     NOT NULL
);
INSERT INTO audit_sealer (last_id) VALUES ('00000000-0000-0000-0000-000000000000');

-- Which key this deployment's servers have in common, so that one with another key says so instead of signing and sealing
-- what the others cannot check or open. Null until the first server has started.
ALTER TABLE deployment ADD COLUMN server_key bytea;
