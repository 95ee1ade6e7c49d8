-- What a breakdown reads, so that the cost of a page does not depend on the number of credentials: usage without
-- credentials in rows of its own, and usage by credential in the order of the groups (src/api/usage/breakdown).

-- Waits for flushes, and they for this, so that neither waits for a table of the other.
SELECT pg_advisory_xact_lock(hashtext('cloudapi'), hashtext('usage'));

-- By kind first, because keys and tokens are groups of their own and there may be many more of the other kind. The days
-- to be deleted are found in usage_days.
ALTER TABLE usage_node
    DROP CONSTRAINT usage_node_pkey,
    ADD PRIMARY KEY (project_id, kind, day, credential_id, route, journal),
    -- By how much flush_usage_node last raised n.
    ADD COLUMN added bigint NOT NULL DEFAULT 0;
DROP INDEX usage_node_by_day;
ALTER TABLE usage_monthly
    DROP CONSTRAINT usage_monthly_pkey,
    ADD PRIMARY KEY (project_id, kind, period, credential_id, route);

-- The sums of usage_node over credentials. By journal, so that servers do not wait for each other.
CREATE TABLE usage_days (
    project_id  uuid      NOT NULL,
    day         date      NOT NULL,
    kind        smallint  NOT NULL,
    route       int       NOT NULL,
    journal     int       NOT NULL,
    n           bigint    NOT NULL,
    PRIMARY KEY (project_id, day, kind, route, journal)
) WITH (fillfactor = 60);
CREATE INDEX usage_days_by_day ON usage_days (day);
INSERT INTO usage_days (project_id, day, kind, route, journal, n)
SELECT project_id, day, kind, route, journal, sum(n) FROM usage_node GROUP BY 1, 2, 3, 4, 5;

-- The sums of usage_monthly over credentials.
CREATE TABLE usage_months (
    project_id  uuid      NOT NULL,
    period      date      NOT NULL,
    kind        smallint  NOT NULL,
    route       int       NOT NULL,
    requests    bigint    NOT NULL,
    PRIMARY KEY (project_id, period, kind, route)
);
INSERT INTO usage_months (project_id, period, kind, route, requests)
SELECT project_id, period, kind, route, sum(requests) FROM usage_monthly GROUP BY 1, 2, 3, 4;

-- Finds the months that are due.
CREATE INDEX usage_totals_by_period ON usage_totals (period, project_id);
-- The last month that is final for every project that existed; null if there is none yet.
ALTER TABLE deployment ADD COLUMN usage_final_through date;
-- Closed journals are kept.
CREATE INDEX usage_journals_open ON usage_journals (id) WHERE closed_at IS NULL;

-- As in 0007, and keeps the sums and the totals: what each row adds to them is returned by the statement that writes the
-- row, so they are exact however often and in whatever parts counts are sent. Until now, the first part was sent with the
-- total of all parts: if the others followed after the end of the month, they were billed twice.
DROP FUNCTION flush_usage_node;
CREATE FUNCTION flush_usage_node(
    a_journal uuid, as_of timestamptz,
    projects uuid[], days date[], credentials uuid[], kinds smallint[], routes int[], counts bigint[],
    month_projects uuid[], months date[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number int;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('cloudapi'), hashtext('usage'));
    IF EXISTS (
        SELECT FROM unnest(month_projects, months) AS m (project_id, period)
        JOIN usage_periods USING (project_id, period)
    ) THEN
        RETURN false;
    END IF;
    number := open_usage_journal(a_journal, as_of);
    WITH written AS (
        INSERT INTO usage_node AS u (project_id, day, credential_id, kind, route, journal, n, added)
        SELECT r.project_id, r.day, r.credential_id, r.kind, r.route, number, r.n, r.n
        -- Not unnest() in FROM, which stores the rows first.
        FROM (
            SELECT unnest(projects) AS project_id, unnest(days) AS day, unnest(credentials) AS credential_id,
                   unnest(kinds) AS kind, unnest(routes) AS route, unnest(counts) AS n
        ) AS r
        ON CONFLICT (project_id, kind, day, credential_id, route, journal) DO UPDATE
        SET n = excluded.n, added = excluded.n - u.n WHERE u.n < excluded.n
        RETURNING project_id, day, kind, route, added
    ), sums AS (
        SELECT project_id, day, kind, route, sum(added) AS n FROM written GROUP BY 1, 2, 3, 4
    ), by_day AS (
        INSERT INTO usage_days AS d (project_id, day, kind, route, journal, n)
        SELECT project_id, day, kind, route, number, n FROM sums
        ON CONFLICT (project_id, day, kind, route, journal) DO UPDATE SET n = d.n + excluded.n
    )
    INSERT INTO usage_totals AS u (project_id, period, journal, requests)
    SELECT project_id, date_trunc('month', day)::date, number, sum(n) FROM sums GROUP BY 1, 2
    ON CONFLICT (project_id, period, journal) DO UPDATE SET requests = u.requests + excluded.requests;
    RETURN true;
END
$$;

-- As in 0013, and adds to the sums.
CREATE OR REPLACE FUNCTION flush_late_usage_node(
    a_journal uuid, as_of timestamptz,
    projects uuid[], days date[], credentials uuid[], kinds smallint[], routes int[], counts bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number int := open_usage_journal(a_journal, as_of);
    since date;
BEGIN
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
        ON CONFLICT (project_id, kind, day, credential_id, route, journal) DO UPDATE SET n = excluded.n
    ), by_day AS (
        INSERT INTO usage_days AS d (project_id, day, kind, route, journal, n)
        SELECT project_id, day, kind, route, journal, sum(more) FROM added GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (project_id, day, kind, route, journal) DO UPDATE SET n = d.n + excluded.n
    ), rolled AS (
        INSERT INTO usage_monthly AS u (project_id, period, credential_id, kind, route, requests)
        SELECT project_id, period, credential_id, kind, route, sum(more) FROM added GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (project_id, kind, period, credential_id, route) DO UPDATE
        SET requests = u.requests + excluded.requests
    ), by_month AS (
        INSERT INTO usage_months AS u (project_id, period, kind, route, requests)
        SELECT project_id, period, kind, route, sum(more) FROM added GROUP BY 1, 2, 3, 4
        ON CONFLICT (project_id, period, kind, route) DO UPDATE SET requests = u.requests + excluded.requests
    )
    INSERT INTO usage_adjustments AS u (project_id, period, recorded_on, requests)
    SELECT project_id, period, as_of::date, sum(more) FROM added GROUP BY 1, 2
    ON CONFLICT (project_id, period, recorded_on) DO UPDATE SET requests = u.requests + excluded.requests;
    RETURN (
        SELECT coalesce(sum(r.n), 0) FROM unnest(days, counts) AS r (day, n) WHERE r.day < since
    );
END
$$;

-- As in 0007, with the sums, and reads only rows of the month.
CREATE OR REPLACE FUNCTION finalize_usage(some_projects uuid[], a_period date, at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    a_last date := a_period + interval '1 month' - interval '1 day';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('cloudapi'), hashtext('usage'));
    WITH fresh AS (
        INSERT INTO usage_periods (project_id, period, requests, included, final_at)
        SELECT s.id, a_period,
               coalesce((SELECT sum(t.requests) FROM usage_totals t WHERE t.project_id = s.id AND t.period = a_period), 0),
               p.included, at
        FROM unnest(some_projects) AS s (id) LEFT JOIN projects p ON p.id = s.id
        ON CONFLICT DO NOTHING
        RETURNING project_id
    ), by_month AS (
        INSERT INTO usage_months (project_id, period, kind, route, requests)
        SELECT f.project_id, a_period, d.kind, d.route, sum(d.n)
        FROM fresh f CROSS JOIN LATERAL (
            SELECT kind, route, n FROM usage_days
            WHERE project_id = f.project_id AND day BETWEEN a_period AND a_last OFFSET 0
        ) d
        GROUP BY f.project_id, d.kind, d.route
    )
    INSERT INTO usage_monthly (project_id, period, credential_id, kind, route, requests)
    SELECT f.project_id, a_period, u.credential_id, u.kind, u.route, sum(u.n)
    FROM fresh f CROSS JOIN generate_series(0, 3) AS k CROSS JOIN LATERAL (
        SELECT credential_id, kind, route, n FROM usage_node
        WHERE project_id = f.project_id AND kind = k AND day BETWEEN a_period AND a_last OFFSET 0
    ) u
    GROUP BY f.project_id, u.credential_id, u.kind, u.route;
    DELETE FROM usage_totals WHERE project_id = ANY (some_projects) AND period = a_period;
END
$$;
