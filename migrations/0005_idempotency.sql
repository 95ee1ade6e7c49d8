-- What was answered to a write that carried an Idempotency-Key, for whoever sends it again.

CREATE TABLE idempotency_records (
    -- Who sent it: the id of a key, of a token, or of a session's user.
    scope          text        NOT NULL,
    -- SHA-256 of the Idempotency-Key: of one length, and a client's words are not ours to keep.
    key_hash       bytea       NOT NULL,
    -- SHA-256 of the method, the path, the query and the body's meaning.
    fingerprint    bytea       NOT NULL,
    status         smallint    NOT NULL,
    location       text,
    etag           text,
    cache_control  text,
    body           bytea       NOT NULL,
    -- Set when the body is sealed to the caller's own secret, because it shows one that is shown once.
    salt           bytea,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (scope, key_hash)
);
-- The clean-up looks for the oldest.
CREATE INDEX idempotency_records_by_age ON idempotency_records (created_at);
