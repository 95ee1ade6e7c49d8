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

-- The claim in one round trip: the lock, and in a snapshot of its own (a volatile function takes a new one for
-- each statement when transactions are READ COMMITTED) what a holder before us has committed.
CREATE FUNCTION claim_idempotency(a_lock bigint, a_scope text, a_key_hash bytea, since timestamptz)
RETURNS TABLE (busy boolean, fingerprint bytea, status smallint, location text, etag text, cache_control text,
               body bytea, salt bytea)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(a_lock) THEN
        busy := true;
        RETURN NEXT;
        RETURN;
    END IF;
    RETURN QUERY SELECT false, r.fingerprint, r.status, r.location, r.etag, r.cache_control, r.body, r.salt
                 FROM idempotency_records r
                 WHERE r.scope = a_scope AND r.key_hash = a_key_hash AND r.created_at > since;
END
$$;
