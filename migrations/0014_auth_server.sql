-- Names the PostgreSQL server that a statement runs on (docs/revocation.md). Heartbeats and credential look-ups
-- return it, and a look-up counts only on the server that commits the heartbeats.
--
-- Two servers never share a name: a promotion changes the timeline, and each start changes the start time. The
-- control file (pg_control_system()) is not used: a look-up would read it from disk, which costs ten times as much
-- and can fail while the server writes it, and its timeline changes only with the checkpoint after a promotion.
--
-- Volatile like the functions it calls, so that the planner can inline it.
CREATE FUNCTION auth_server() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint || '/' ||
           CASE WHEN pg_is_in_recovery() THEN 'recovery' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
$$;
