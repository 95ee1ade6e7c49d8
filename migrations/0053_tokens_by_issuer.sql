-- The tokens of an issuer, for lists. An index for each kind of issuer, because IDs of two kinds can have the same number. A token
-- has one issuer, so it is in one of them.
CREATE INDEX tokens_by_issuer_key ON tokens (project_id, issuer_key_id, id) WHERE issuer_key_id IS NOT NULL;
CREATE INDEX tokens_by_issuer_token ON tokens (project_id, issuer_token_id, id) WHERE issuer_token_id IS NOT NULL;
CREATE INDEX tokens_by_issuer_user ON tokens (project_id, issuer_user_id, id) WHERE issuer_user_id IS NOT NULL;
