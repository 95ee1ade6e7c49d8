-- The function of 0007 with every column named. `*` takes another shape when a table gets a column, and a statement that
-- was prepared before then fails.
CREATE OR REPLACE FUNCTION flush_late_usage_node(
    a_journal uuid, as_of timestamptz,
    projects uuid[], days date[], credentials uuid[], kinds smallint[], routes int[], counts bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number int := open_usage_journal(a_journal, as_of);
    since date;
BEGIN
    -- Alone, because it adds the difference to what it finds.
    PERFORM pg_advisory_xact_lock(hashtext('cloudapi'), hashtext('usage'));
    SELECT usage_from INTO since FROM deployment;
    WITH sent AS (
        SELECT r.project_id, r.day, r.credential_id, r.kind, r.route, r.n, number AS journal
        FROM unnest(projects, days, credentials, kinds, routes, counts)
             AS r (project_id, day, credential_id, kind, route, n)
        WHERE r.day >= since
    ), added AS (
        SELECT s.project_id, s.day, s.credential_id, s.kind, s.route, s.n, s.journal,
               date_trunc('month', s.day)::date AS period, s.n - coalesce(u.n, 0) AS more
        FROM sent s LEFT JOIN usage_node u USING (project_id, day, credential_id, kind, route, journal)
        WHERE s.n > coalesce(u.n, 0)
    ), written AS (
        INSERT INTO usage_node (project_id, day, credential_id, kind, route, journal, n)
        SELECT project_id, day, credential_id, kind, route, journal, n FROM added
        ON CONFLICT (project_id, day, credential_id, kind, route, journal) DO UPDATE SET n = excluded.n
    ), rolled AS (
        INSERT INTO usage_monthly AS u (project_id, period, credential_id, kind, route, requests)
        SELECT project_id, period, credential_id, kind, route, sum(more) FROM added GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (project_id, period, credential_id, kind, route) DO UPDATE
        SET requests = u.requests + excluded.requests
    )
    INSERT INTO usage_adjustments AS u (project_id, period, recorded_on, requests)
    SELECT project_id, period, as_of::date, sum(more) FROM added GROUP BY 1, 2
    ON CONFLICT (project_id, period, recorded_on) DO UPDATE SET requests = u.requests + excluded.requests;
    RETURN (
        SELECT coalesce(sum(r.n), 0) FROM unnest(days, counts) AS r (day, n) WHERE r.day < since
    );
END
$$;
