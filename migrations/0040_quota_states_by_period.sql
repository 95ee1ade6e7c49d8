-- Finds the states of months that are final.
CREATE INDEX quota_states_by_period ON quota_states (period);
