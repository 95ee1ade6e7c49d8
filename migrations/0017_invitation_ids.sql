-- An invitation has an id of its own, which is shown until it is accepted. The id of the invited account would tell
-- whoever invites an address whether it has an account, and since when: ids carry their time.

ALTER TABLE members ADD COLUMN invitation_id uuid;
UPDATE members m
SET invitation_id = (SELECT i.id FROM invitations i
                     WHERE i.project_id = m.project_id AND i.user_id = m.user_id
                       AND i.accepted_at IS NULL AND i.withdrawn_at IS NULL
                     ORDER BY i.id DESC LIMIT 1)
WHERE m.status = 'invited';

-- The id that clients see. Generated, so that accepting an invitation changes it and servers of the version before this
-- one can go on writing the table.
ALTER TABLE members ADD COLUMN public_id uuid NOT NULL GENERATED ALWAYS AS
    (CASE WHEN status = 'invited' THEN coalesce(invitation_id, user_id) ELSE user_id END) STORED;
-- The list of a project's users.
CREATE UNIQUE INDEX members_by_public_id ON members (project_id, public_id);
