-- What was deleted, so that a repeated DELETE gets the first response: a client that lost it cannot tell "done" from
-- "never existed" otherwise. Rows outlive what they name, and the project that it was in, and are removed after two days.
CREATE TABLE deletions (
    kind           text        NOT NULL CHECK (kind IN ('project', 'webhook', 'member')),
    id             uuid        NOT NULL,
    -- No foreign key: the project may be what was deleted.
    project_id     uuid        NOT NULL,
    -- The role of a removed member: whoever could not remove them may not learn that they are gone.
    role           text,
    -- Users who may repeat the DELETE although they are in the project no longer.
    repeatable_by  uuid[]      NOT NULL DEFAULT '{}',
    deleted_at     timestamptz NOT NULL,
    PRIMARY KEY (kind, id, project_id)
);

CREATE INDEX deletions_by_age ON deletions (deleted_at);
