-- From where and how often a key, and what was issued under it, may be used.

-- Networks in CIDR notation; from everywhere when there is none.
ALTER TABLE keys ADD COLUMN allowed_ips text[] NOT NULL DEFAULT '{}';
-- {requests, per_seconds}; null for what the operator says.
ALTER TABLE keys ADD COLUMN rate_limit jsonb;
