-- Cloud resources (docs/resources.md): what was asked for, what exists at providers, and the operations that bring the one
-- to the other. Times that workers go by are the database's, which all servers share.

CREATE TABLE resources (
    id                   uuid         PRIMARY KEY,
    project_id           uuid         NOT NULL REFERENCES projects ON DELETE CASCADE,
    kind                 text         NOT NULL CHECK (kind IN ('network.network', 'storage.volume', 'compute.instance')),
    -- A provider's name in the operator's file. It may be missing there for a while.
    provider             text         NOT NULL,
    name                 text         NOT NULL,
    labels               jsonb        NOT NULL,
    -- What is asked for, in the words of clients; counted up by each change of it, and how far that has come.
    spec                 jsonb        NOT NULL,
    generation           bigint       NOT NULL DEFAULT 1,
    observed_generation  bigint       NOT NULL DEFAULT 0,
    phase                text         NOT NULL DEFAULT 'pending'
        CHECK (phase IN ('pending', 'provisioning', 'active', 'updating', 'failed', 'deleting', 'deleted')),
    -- Whether an instance runs, as last seen, and whether it should; null for what cannot.
    power                text         CHECK (power IN ('on', 'off')),
    desired_power        text         CHECK (desired_power IN ('on', 'off')),
    -- The object's own id at its provider, once there is one.
    provider_ref         text,
    -- What the provider says of it: addresses and the like.
    outputs              jsonb        NOT NULL DEFAULT '{}',
    -- What is to be known of it now: [{type, reason, message, since, difference}], one of a type at most.
    conditions           jsonb        NOT NULL DEFAULT '[]',
    -- When it was last seen at its provider.
    last_synced_at       timestamptz,
    -- When an operation on it last ended: what was listed before says nothing of what is now.
    settled_at           timestamptz  NOT NULL DEFAULT now(),
    protection           boolean      NOT NULL,
    reconcile            text         NOT NULL CHECK (reconcile IN ('observe', 'enforce')),
    -- When it is deleted by itself.
    expires_at           timestamptz,
    -- When to try that; later than expires_at while something else still uses it.
    expiry_due_at        timestamptz,
    -- Counted up by each change that clients can see. They see it as the entity tag.
    version              bigint       NOT NULL DEFAULT 1,
    created_at           timestamptz  NOT NULL,
    deleted_at           timestamptz,
    CONSTRAINT resources_deleted_has_time CHECK ((phase = 'deleted') = (deleted_at IS NOT NULL))
-- Each operation updates its row several times.
) WITH (fillfactor = 70);
CREATE INDEX resources_by_project ON resources (project_id, id);
CREATE INDEX resources_by_label ON resources USING gin (labels jsonb_path_ops);
CREATE INDEX resources_by_provider ON resources (provider, kind, id) WHERE phase <> 'deleted';
-- An object is one resource's.
CREATE UNIQUE INDEX resources_one_per_object ON resources (provider, kind, provider_ref)
    WHERE provider_ref IS NOT NULL AND phase <> 'deleted';
CREATE INDEX resources_expiring ON resources (expiry_due_at) WHERE expiry_due_at IS NOT NULL AND phase <> 'deleted';
-- For the sweep, which forgets what was deleted long ago.
CREATE INDEX resources_deleted ON resources (deleted_at) WHERE deleted_at IS NOT NULL;

-- What refers to what: who deletes a thing locks its row, who refers to it shares that lock, so that one of them is first.
CREATE TABLE resource_references (
    from_id  uuid  NOT NULL REFERENCES resources ON DELETE CASCADE,
    to_id    uuid  NOT NULL REFERENCES resources ON DELETE CASCADE,
    -- The member of the spec that says so.
    member   text  NOT NULL CHECK (member IN ('network', 'volumes')),
    PRIMARY KEY (from_id, to_id)
);
CREATE INDEX resource_references_by_target ON resource_references (to_id);
-- A volume is attached to one instance at most.
CREATE UNIQUE INDEX resource_references_volume_once ON resource_references (to_id) WHERE member = 'volumes';

CREATE TABLE operations (
    id                uuid         PRIMARY KEY,
    project_id        uuid         NOT NULL REFERENCES projects ON DELETE CASCADE,
    resource_id       uuid         NOT NULL REFERENCES resources ON DELETE CASCADE,
    type              text         NOT NULL CHECK (type IN ('create', 'update', 'delete', 'start', 'stop', 'reboot', 'attach',
                                                            'detach', 'resize', 'import', 'sync', 'mend')),
    status            text         NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    -- What is done next; written before it is done, so that whoever takes over knows what may have been done.
    step              text         NOT NULL DEFAULT 'queued',
    -- In percent.
    progress          smallint     NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    -- How often the present step has failed in a way that is worth another try.
    attempt           integer      NOT NULL DEFAULT 0,
    error             jsonb,
    -- What it set out from, to go back to when it is canceled: {spec, desired_power, phase}.
    before            jsonb        NOT NULL DEFAULT '{}',
    cancel_requested  boolean      NOT NULL DEFAULT false,
    -- The trace of the request that asked for it, which what comes of it goes on with.
    traceparent       text,
    created_at        timestamptz  NOT NULL,
    started_at        timestamptz,
    finished_at       timestamptz,
    -- When to give it up.
    deadline          timestamptz  NOT NULL,
    -- When the next step is due; null when there is none. Whoever takes it sets it to the end of their lease, so that
    -- another takes it should they die.
    due_at            timestamptz  DEFAULT now(),
    -- How often it has been taken: only who has taken it last may write to it.
    fence             bigint       NOT NULL DEFAULT 0,
    CONSTRAINT operations_open_are_due CHECK ((due_at IS NULL) = (status IN ('succeeded', 'failed', 'canceled'))),
    CONSTRAINT operations_ended_have_time CHECK ((finished_at IS NULL) = (status IN ('queued', 'running')))
) WITH (fillfactor = 50);
CREATE INDEX operations_by_project ON operations (project_id, id);
CREATE INDEX operations_by_resource ON operations (resource_id, id);
-- One at a time: what a second one is refused by.
CREATE UNIQUE INDEX operations_one_open ON operations (resource_id) WHERE due_at IS NOT NULL;
CREATE INDEX operations_due ON operations (due_at) WHERE due_at IS NOT NULL;
-- For the sweep, which forgets what ended long ago.
CREATE INDEX operations_finished ON operations (finished_at) WHERE finished_at IS NOT NULL;

-- How many of a kind a project may have, where the operator has said so.
CREATE TABLE resource_quotas (
    project_id  uuid     NOT NULL REFERENCES projects ON DELETE CASCADE,
    kind        text     NOT NULL,
    maximum     integer  NOT NULL CHECK (maximum >= 0),
    PRIMARY KEY (project_id, kind)
);
-- How many it has: taken when a creation is accepted, given back when the thing is gone.
CREATE TABLE resource_counts (
    project_id  uuid     NOT NULL REFERENCES projects ON DELETE CASCADE,
    kind        text     NOT NULL,
    count       integer  NOT NULL CHECK (count >= 0),
    PRIMARY KEY (project_id, kind)
);

-- When somebody is to look through all of a provider's objects of a kind; leased as operations are.
CREATE TABLE provider_sweeps (
    provider     text         NOT NULL,
    kind         text         NOT NULL,
    due_at       timestamptz  NOT NULL DEFAULT now(),
    fence        bigint       NOT NULL DEFAULT 0,
    -- When that was last done, whole.
    swept_at     timestamptz,
    PRIMARY KEY (provider, kind)
);

-- The objects of the simulated providers (src/resources/drivers/sim). No foreign keys: a provider knows nothing of us.
CREATE TABLE sim_objects (
    provider      text         NOT NULL,
    reference     text         NOT NULL,
    kind          text         NOT NULL,
    -- The tags: whose it is, if it is anybody's.
    deployment    uuid,
    resource_id   uuid,
    client_token  uuid,
    name          text         NOT NULL,
    labels        jsonb        NOT NULL DEFAULT '{}',
    spec          jsonb        NOT NULL,
    power         text,
    -- From when on it is ready; and gone, once somebody has deleted it.
    ready_at      timestamptz  NOT NULL,
    gone_at       timestamptz,
    created_at    timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, kind, reference),
    CONSTRAINT sim_objects_token_once UNIQUE (provider, client_token)
);
CREATE INDEX sim_objects_by_resource ON sim_objects (resource_id);
CREATE INDEX sim_objects_gone ON sim_objects (gone_at) WHERE gone_at IS NOT NULL;
