-- Finds the notices of months that are final.
CREATE INDEX quota_notices_by_period ON quota_notices (period);
