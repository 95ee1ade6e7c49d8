-- How every node learns at once that a credential, or something it rests on, is no more what it was
-- (docs/revocation.md).

-- Counted up by each recall, as the last thing before its COMMIT: the row's lock makes the order of the numbers
-- the order of the commits, which a sequence would not.
CREATE TABLE auth_clock (
    only_row  boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    seq       bigint   NOT NULL
);
INSERT INTO auth_clock (seq) VALUES (0);

-- What was recalled. Without a gap from its oldest row on; the oldest are removed after an hour.
CREATE TABLE auth_log (
    seq      bigint       NOT NULL,
    -- A session, key, token, user or project, as clients write its id; or a membership, as project/user.
    subject  text         NOT NULL,
    -- The database's own time: it only decides how long the row is kept.
    made_at  timestamptz  NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, subject)
);

-- Who may be answering from a cache. Stamps come from one sequence, so that none ever comes twice.
CREATE SEQUENCE auth_stamps;
CREATE TABLE auth_nodes (
    node_id    uuid    PRIMARY KEY,
    stamp      bigint  NOT NULL DEFAULT nextval('auth_stamps'),
    -- Up to where it has followed the log; 0 until it has begun to.
    acked_seq  bigint  NOT NULL DEFAULT 0
);

-- Recalls all that rests on any of these; null if there are none.
CREATE FUNCTION recall(subjects text[]) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    at bigint;
BEGIN
    IF cardinality(subjects) = 0 THEN
        RETURN NULL;
    END IF;
    -- Until COMMIT every other recall waits for this row. COMMIT comes in the same message as the call, so that no
    -- server can hang in between and hold them all up.
    UPDATE auth_clock SET seq = seq + 1 RETURNING seq INTO at;
    INSERT INTO auth_log (seq, subject) SELECT at, s FROM unnest(subjects) AS s GROUP BY s;
    PERFORM pg_notify('cloudapi_recalls', '');
    RETURN at;
END
$$;

-- Whoever is answered from a record waits for what its write recalled, as the first did.
ALTER TABLE idempotency_records ADD COLUMN recall_seq bigint;

DROP FUNCTION claim_idempotency(bigint, text, bytea, timestamptz);
-- The lock as before, and then only whether there is a record: for almost every write there is none, and a function
-- that returns rows costs a fifth of the claim's time more.
CREATE FUNCTION claim_idempotency(a_lock bigint, a_scope text, a_key_hash bytea, since timestamptz)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(a_lock) THEN
        RETURN 'busy';
    END IF;
    PERFORM FROM idempotency_records r WHERE r.scope = a_scope AND r.key_hash = a_key_hash AND r.created_at > since;
    RETURN CASE WHEN FOUND THEN 'again' ELSE 'first' END;
END
$$;

-- Keeps an answer and recalls what its write changed, in a statement that can travel with COMMIT. Gives the recall's
-- number.
CREATE FUNCTION keep_answer(a_scope text, a_key_hash bytea, a_fingerprint bytea, a_status int, a_location text,
                            an_etag text, a_cache_control text, a_body bytea, a_salt bytea, now timestamptz,
                            recalled text[])
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    at bigint := recall(recalled);
BEGIN
    INSERT INTO idempotency_records
        (scope, key_hash, fingerprint, status, location, etag, cache_control, body, salt, created_at, recall_seq)
    VALUES (a_scope, a_key_hash, a_fingerprint, a_status, a_location, an_etag, a_cache_control, a_body, a_salt, now, at)
    ON CONFLICT (scope, key_hash) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = excluded.status, location = excluded.location,
        etag = excluded.etag, cache_control = excluded.cache_control, body = excluded.body, salt = excluded.salt,
        created_at = excluded.created_at, recall_seq = excluded.recall_seq;
    RETURN at;
END
$$;
