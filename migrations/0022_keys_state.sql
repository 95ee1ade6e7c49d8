-- The list of keys filters by status through an index. Whether a key has expired depends on the clock: the cleanup records
-- it a minute later, so that servers whose clocks differ by seconds agree. Until then, the list finds the key by its
-- expiration time.
ALTER TABLE keys
    -- `expires_at`, when that time has passed. Extending the key makes the two differ.
    ADD COLUMN expired_at timestamptz,
    ADD COLUMN state text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expired_at = expires_at THEN 'expired' ELSE 'active' END) STORED;
CREATE INDEX keys_by_state ON keys (project_id, state, id);
-- Keys whose expiration is not recorded yet: for the list, and for the cleanup.
CREATE INDEX keys_expiring ON keys (project_id, expires_at, id) WHERE state = 'active' AND expires_at IS NOT NULL;
CREATE INDEX keys_to_expire ON keys (expires_at) WHERE state = 'active' AND expires_at IS NOT NULL;
