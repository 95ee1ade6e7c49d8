-- The tables behind the published reference: projects, users, sessions, keys, tokens and usage.
--
-- Ids are UUIDs (see src/base/id.rs). Lists page by (project, id), so each listed table has an index
-- in that order. Times come from the server's clock, not from now(), so that tests can move it.

CREATE TABLE projects (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    -- Only an active project's credentials work.
    status      text        NOT NULL DEFAULT 'active',
    metadata    jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL,
    CONSTRAINT projects_status_known CHECK (status IN ('active', 'suspended', 'archived'))
);

CREATE TABLE users (
    id             uuid        PRIMARY KEY,
    -- Lower case and NFC, so that equality is identity.
    email          text        NOT NULL,
    -- Argon2id in PHC form; null until the user has set one, which no sign-in can then match.
    password_hash  text,
    created_at     timestamptz NOT NULL,
    CONSTRAINT users_email_unique UNIQUE (email)
);

CREATE TABLE members (
    project_id  uuid        NOT NULL REFERENCES projects ON DELETE CASCADE,
    user_id     uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    role        text        NOT NULL,
    created_at  timestamptz NOT NULL,
    -- In this order it also serves the list of a project's users.
    PRIMARY KEY (project_id, user_id),
    CONSTRAINT members_role_known CHECK (role IN ('viewer', 'member', 'admin', 'owner'))
);
-- The list of a user's projects.
CREATE INDEX members_by_user ON members (user_id, project_id);

CREATE TABLE sessions (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    secret_hash  bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    CONSTRAINT sessions_secret_unique UNIQUE (secret_hash)
);
CREATE INDEX sessions_by_user ON sessions (user_id, id);

CREATE TABLE keys (
    id          uuid        PRIMARY KEY,
    project_id  uuid        NOT NULL REFERENCES projects ON DELETE CASCADE,
    name        text        NOT NULL,
    scopes      text[]      NOT NULL,
    metadata    jsonb       NOT NULL DEFAULT '{}',
    -- Keys belong to the project and outlive their creator, whom the operator's commands lack.
    created_by  uuid        REFERENCES users ON DELETE SET NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX keys_by_project ON keys (project_id, id);

-- Apart from the key, because a key keeps its id and its settings when its secret changes.
CREATE TABLE key_secrets (
    secret_hash  bytea       PRIMARY KEY,
    key_id       uuid        NOT NULL REFERENCES keys ON DELETE CASCADE,
    -- The secret's first characters, for people.
    hint         text        NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

CREATE TABLE tokens (
    id               uuid        PRIMARY KEY,
    project_id       uuid        NOT NULL REFERENCES projects ON DELETE CASCADE,
    secret_hash      bytea       NOT NULL,
    hint             text        NOT NULL,
    name             text        NOT NULL,
    scopes           text[]      NOT NULL,
    -- What it hangs on: a key, another token, or a user's membership. It is dead as soon as that is.
    issuer_key_id    uuid        REFERENCES keys ON DELETE CASCADE,
    issuer_token_id  uuid        REFERENCES tokens ON DELETE CASCADE,
    issuer_user_id   uuid        REFERENCES users ON DELETE CASCADE,
    -- 1 for a token that a key or a session issued, one more for each token in between.
    depth            smallint    NOT NULL,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    revoked_at       timestamptz,
    CONSTRAINT tokens_secret_unique UNIQUE (secret_hash),
    CONSTRAINT tokens_one_issuer CHECK (num_nonnulls(issuer_key_id, issuer_token_id, issuer_user_id) = 1),
    CONSTRAINT tokens_depth_limited CHECK (depth BETWEEN 1 AND 8)
);
CREATE INDEX tokens_by_project ON tokens (project_id, id);
-- A revocation walks from the issuer down.
CREATE INDEX tokens_by_issuer_key ON tokens (issuer_key_id) WHERE issuer_key_id IS NOT NULL;
CREATE INDEX tokens_by_issuer_token ON tokens (issuer_token_id) WHERE issuer_token_id IS NOT NULL;
CREATE INDEX tokens_by_issuer_user ON tokens (issuer_user_id, project_id) WHERE issuer_user_id IS NOT NULL;

-- Requests by project and UTC day; each node adds what it counted since it last did.
CREATE TABLE usage_daily (
    project_id  uuid    NOT NULL REFERENCES projects ON DELETE CASCADE,
    day         date    NOT NULL,
    requests    bigint  NOT NULL,
    PRIMARY KEY (project_id, day)
);
