-- Creating a key, a project or a webhook is one statement, as creating a token is (0008): the membership that the server has
-- read is checked and locked again, then the rows are written. Each function gets the result of the one before it.

-- Passes `claim` on if the user still has this role in the project, and the project is active. Locks the membership until the
-- transaction ends, so that a role that was just removed cannot be used.
CREATE FUNCTION require_membership(claim text, a_project uuid, a_user uuid, a_role text)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    END IF;
    PERFORM FROM members m JOIN projects p ON p.id = m.project_id
    WHERE m.project_id = a_project AND m.user_id = a_user AND m.role = a_role AND m.status = 'active' AND p.status = 'active'
    FOR SHARE OF m;
    IF FOUND THEN
        RETURN claim;
    END IF;
    RETURN 'membership_changed';
END
$$;

CREATE FUNCTION create_key(claim text, a_id uuid, a_project uuid, a_name text, some_scopes text[], some_metadata jsonb,
                           a_creator uuid, at timestamptz, an_end timestamptz, a_secret_hash bytea, a_hint text,
                           some_ips text[], a_rate_limit jsonb)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    END IF;
    INSERT INTO keys (id, project_id, name, scopes, metadata, created_by, created_at, expires_at, hint, allowed_ips,
                      rate_limit)
    VALUES (a_id, a_project, a_name, some_scopes, some_metadata, a_creator, at, an_end, a_hint, some_ips, a_rate_limit);
    INSERT INTO key_secrets (secret_hash, key_id, created_at) VALUES (a_secret_hash, a_id, at);
    RETURN 'done';
END
$$;

CREATE FUNCTION create_project(claim text, a_id uuid, a_name text, some_metadata jsonb, at timestamptz)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    END IF;
    INSERT INTO projects (id, name, metadata, created_at) VALUES (a_id, a_name, some_metadata, at);
    RETURN 'done';
END
$$;

-- Adds an active member to a project that was just created.
CREATE FUNCTION add_member(outcome text, a_project uuid, a_user uuid, a_role text, at timestamptz)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF outcome = 'done' THEN
        INSERT INTO members (project_id, user_id, role, status, created_at) VALUES (a_project, a_user, a_role, 'active', at);
    END IF;
    RETURN outcome;
END
$$;

CREATE FUNCTION create_webhook(claim text, a_id uuid, a_project uuid, a_url text, some_types text[], a_description text,
                               is_enabled boolean, a_secret bytea, at timestamptz, a_maximum bigint)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    END IF;
    -- The next statement counts the webhooks that the previous holder of this lock has created.
    PERFORM FROM projects WHERE id = a_project FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM webhooks WHERE project_id = a_project) >= a_maximum THEN
        RETURN 'too_many';
    END IF;
    INSERT INTO webhooks (id, project_id, url, event_types, description, enabled, secret, created_at)
    VALUES (a_id, a_project, a_url, some_types, a_description, is_enabled, a_secret, at);
    RETURN 'done';
END
$$;
