-- Expired credentials and invitations are removed in batches, the oldest first.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);
CREATE INDEX key_secrets_by_expiry ON key_secrets (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX invitations_by_expiry ON invitations (expires_at);
