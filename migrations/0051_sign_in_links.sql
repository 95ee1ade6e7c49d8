-- Links that sign a user in once. A link is deleted when it is used, so it works once, whichever server it is sent to.
CREATE TABLE sign_in_links (
    secret_hash  bytea        PRIMARY KEY,
    user_id      uuid         NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at   timestamptz  NOT NULL,
    expires_at   timestamptz  NOT NULL
);
CREATE INDEX sign_in_links_by_user ON sign_in_links (user_id);
CREATE INDEX sign_in_links_by_expiry ON sign_in_links (expires_at);
