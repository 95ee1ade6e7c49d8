-- Inviting a user is one statement, as creating a key is (0021): the account of the email address is found or created, then
-- the membership and the invitation are added.
CREATE FUNCTION create_invitation(claim text, an_id uuid, a_project uuid, a_new_account uuid, an_email text,
                                  an_email_key text, a_role text, a_secret_hash bytea, a_creator uuid, at timestamptz,
                                  an_end timestamptz)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    account uuid;
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    END IF;
    -- An existing account is not locked, so that the duration does not depend on what its user is doing. If another
    -- transaction is creating the account, the insertion waits for it and does nothing, and the next query finds it.
    FOR attempt IN 1..2 LOOP
        SELECT id INTO account FROM users WHERE email = an_email OR email_key = an_email_key
        ORDER BY email = an_email DESC LIMIT 1;
        EXIT WHEN FOUND;
        INSERT INTO users (id, email, email_key, created_at) VALUES (a_new_account, an_email, an_email_key, at)
        ON CONFLICT DO NOTHING RETURNING id INTO account;
        EXIT WHEN FOUND;
    END LOOP;
    INSERT INTO members (project_id, user_id, invitation_id, invited_as, role, status, created_at)
    VALUES (a_project, account, an_id, an_email, a_role, 'invited', at)
    ON CONFLICT (project_id, user_id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'already_member';
    END IF;
    INSERT INTO invitations (id, project_id, user_id, secret_hash, created_by, created_at, expires_at)
    VALUES (an_id, a_project, account, a_secret_hash, a_creator, at, an_end);
    RETURN 'done';
END
$$;
