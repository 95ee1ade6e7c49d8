-- A session that is not used ends before its time. Noted to the minute, with the keys' and tokens' last
-- uses; null until the first, so that sessions from before this count from when they were made.
ALTER TABLE sessions ADD COLUMN last_used_at timestamptz;
