-- Open journals in the order in which they were opened. In the order of 0034, those that are closed could be read too.
DROP INDEX usage_journals_open;
CREATE INDEX usage_journals_open ON usage_journals (opened_at, id) WHERE closed_at IS NULL;
