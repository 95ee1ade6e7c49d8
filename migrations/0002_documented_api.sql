-- What the rest of the documented API needs: states of projects and members, invitations, rotation of
-- keys, and when a credential was last used.

-- Counted up by every change, so that a client can say which state it means to change (ETag, If-Match).
ALTER TABLE projects ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- Somebody who is invited is listed, and may do nothing until they accept.
ALTER TABLE members ADD COLUMN status text NOT NULL DEFAULT 'active';
ALTER TABLE members ADD CONSTRAINT members_status_known CHECK (status IN ('invited', 'active'));

CREATE TABLE invitations (
    id            uuid        PRIMARY KEY,
    project_id    uuid        NOT NULL REFERENCES projects ON DELETE CASCADE,
    user_id       uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    secret_hash   bytea       NOT NULL,
    -- Kept when the inviter goes: the invitation is the project's.
    created_by    uuid        REFERENCES users ON DELETE SET NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    -- Set once; an invitation is open while it has none of them and has not expired.
    accepted_at   timestamptz,
    withdrawn_at  timestamptz,
    CONSTRAINT invitations_secret_unique UNIQUE (secret_hash),
    CONSTRAINT invitations_one_end CHECK (num_nonnulls(accepted_at, withdrawn_at) <= 1)
);
CREATE INDEX invitations_by_member ON invitations (project_id, user_id);

-- The newest secret's first characters belong to what is listed; a list then needs no second table.
ALTER TABLE keys ADD COLUMN hint text;
UPDATE keys SET hint = (SELECT s.hint FROM key_secrets s WHERE s.key_id = keys.id ORDER BY s.created_at DESC LIMIT 1);
ALTER TABLE keys ALTER COLUMN hint SET NOT NULL;
ALTER TABLE key_secrets DROP COLUMN hint;
-- When a secret that a rotation has replaced stops working; null for the newest.
ALTER TABLE key_secrets ADD COLUMN expires_at timestamptz;
-- The same of the one before the newest, for whoever looks at the key.
ALTER TABLE keys ADD COLUMN previous_expires_at timestamptz;

-- To the minute, so that a busy credential is not written at every request.
ALTER TABLE keys ADD COLUMN last_used_at timestamptz;
ALTER TABLE tokens ADD COLUMN last_used_at timestamptz;
