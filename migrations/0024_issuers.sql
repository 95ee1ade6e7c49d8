-- A revocation writes one row, whatever the credential has issued: a token is valid only if each of its issuers is, which each
-- lookup decides. Until now, a revocation also marked every token below.

-- Identity of a membership. A user who is removed and invited again gets a new one, so that tokens of the former membership
-- stay dead.
ALTER TABLE members ADD COLUMN membership_id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE tokens ADD COLUMN issuer_membership_id uuid;
UPDATE tokens t SET issuer_membership_id = m.membership_id
FROM members m WHERE m.project_id = t.project_id AND m.user_id = t.issuer_user_id;

-- A token without its issuer is dead, so issuers are not referenced: a foreign key would remove any number of tokens with
-- one issuer, and would lock the issuer's row for each new token.
ALTER TABLE tokens DROP CONSTRAINT tokens_issuer_key_id_fkey, DROP CONSTRAINT tokens_issuer_token_id_fkey,
                   DROP CONSTRAINT tokens_issuer_user_id_fkey;
DROP INDEX tokens_by_issuer_key, tokens_by_issuer_token, tokens_by_issuer_user;

-- When the first of a token's issuers expires; NULL if none of them does. 'epoch' if one of them was revoked or is missing.
CREATE FUNCTION issuers_end(a_key uuid, a_token uuid, a_user uuid, a_project uuid, a_membership uuid)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    first_end timestamptz;
    an_end timestamptz;
    is_revoked boolean;
BEGIN
    WHILE a_token IS NOT NULL LOOP
        SELECT issuer_key_id, issuer_token_id, issuer_user_id, issuer_membership_id, expires_at, revoked_at IS NOT NULL
        INTO a_key, a_token, a_user, a_membership, an_end, is_revoked FROM tokens WHERE id = a_token;
        IF NOT FOUND OR is_revoked THEN
            RETURN 'epoch';
        END IF;
        first_end := least(first_end, an_end);
    END LOOP;
    IF a_key IS NOT NULL THEN
        SELECT expires_at, revoked_at IS NOT NULL INTO an_end, is_revoked FROM keys WHERE id = a_key;
        IF NOT FOUND OR is_revoked THEN
            RETURN 'epoch';
        END IF;
        RETURN least(first_end, an_end);
    END IF;
    PERFORM FROM members
    WHERE project_id = a_project AND user_id = a_user AND membership_id = a_membership AND status = 'active';
    IF NOT FOUND THEN
        RETURN 'epoch';
    END IF;
    RETURN first_end;
END
$$;

-- Makes a token, unless one of its issuers has ended or lies as deep as a token may. It locks no issuer: a token that is made
-- while one is revoked is dead as soon as the revocation is committed.
CREATE OR REPLACE FUNCTION issue_token(claim text, a_id uuid, a_project uuid, a_secret_hash bytea, a_hint text, a_key uuid,
                            a_token uuid, a_user uuid, a_name text, some_scopes text[], at timestamptz, an_end timestamptz,
                            deepest smallint)
RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    level int := 1;
    a_membership uuid;
BEGIN
    IF claim <> 'first' THEN
        RETURN claim;
    ELSIF a_token IS NOT NULL THEN
        SELECT depth + 1 INTO level FROM tokens WHERE id = a_token;
    ELSIF a_user IS NOT NULL THEN
        SELECT membership_id INTO a_membership FROM members WHERE project_id = a_project AND user_id = a_user;
    END IF;
    IF issuers_end(a_key, a_token, a_user, a_project, a_membership) <= at THEN
        RETURN 'issuer_ended';
    ELSIF level > deepest THEN
        RETURN 'too_deep';
    END IF;
    INSERT INTO tokens (id, project_id, secret_hash, hint, issuer_key_id, issuer_token_id, issuer_user_id,
                        issuer_membership_id, name, scopes, created_at, expires_at, depth)
    VALUES (a_id, a_project, a_secret_hash, a_hint, a_key, a_token, a_user, a_membership, a_name, some_scopes, at, an_end,
            level);
    RETURN 'done';
END
$$;
