-- Sessions of the console: the secret of such a session is in a cookie, and is not accepted as a Bearer credential. The
-- kind has a default, because an older server can insert sessions during an update, and creates none for the console.
ALTER TABLE sessions
    ADD COLUMN kind text NOT NULL DEFAULT 'api' CONSTRAINT sessions_kind_known CHECK (kind IN ('api', 'console')),
    -- When the user last proved who they are; NULL if that was when the session was created.
    ADD COLUMN authenticated_at timestamptz,
    -- Client that signed in, so that people recognize their sessions. NULL for a session that the operator created.
    ADD COLUMN user_agent text,
    ADD COLUMN source_ip text;
