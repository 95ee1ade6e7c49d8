-- For the list of users with a role.
CREATE INDEX members_by_role ON members (project_id, role, public_id);
-- For the check that a project keeps an owner.
CREATE INDEX members_owners ON members (project_id, user_id) WHERE role = 'owner' AND status = 'active';
-- With the status, so that the list of a user's projects need not read the members it skips.
DROP INDEX members_by_user;
CREATE INDEX members_by_user ON members (user_id, project_id) INCLUDE (status);
