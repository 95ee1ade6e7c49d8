-- Usage that can be billed from (docs/usage.md): what each node's journal has counted, in absolute numbers, and what
-- is kept of a month when it is over.

-- Which database this is, so that no journal is ever counted in another one.
CREATE TABLE deployment (
    only_row  boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    id        uuid     NOT NULL DEFAULT gen_random_uuid(),
    -- Of the days before this one only whole months are kept.
    usage_from  date   NOT NULL DEFAULT '0001-01-01'
);
INSERT INTO deployment DEFAULT VALUES;

-- What the operator has agreed on with whoever pays. Null: unlimited, and none.
ALTER TABLE projects ADD COLUMN included bigint CHECK (included >= 0);
ALTER TABLE projects ADD COLUMN hard_limit bigint CHECK (hard_limit >= 0);
-- Each node asks once a second which of them are used up.
CREATE INDEX projects_with_hard_limit ON projects (id) WHERE hard_limit IS NOT NULL;

-- When a credential was last used is written once a minute. With room beside its row, that does not touch the indexes.
ALTER TABLE keys SET (fillfactor = 60);
ALTER TABLE tokens SET (fillfactor = 60);
ALTER TABLE sessions SET (fillfactor = 60);

-- The files in which nodes count.
CREATE TABLE usage_journals (
    -- Short, because it stands in every row that is counted.
    id          int          GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal     uuid         NOT NULL UNIQUE,
    opened_at   timestamptz  NOT NULL,
    -- All that was counted in it before is written.
    flushed_at  timestamptz  NOT NULL,
    -- Set when all that is in it is written and nobody counts in it.
    closed_at   timestamptz
);

-- The routes that rows name by the CRC-32 of their text.
CREATE TABLE usage_routes (
    id     int   PRIMARY KEY,
    route  text  NOT NULL
);

-- What a journal has counted of one credential on one route on one UTC day. Absolute numbers, of which the greatest
-- is kept: sent twice, they count once. Without foreign keys: what is deleted has been used all the same.
CREATE TABLE usage_node (
    project_id     uuid      NOT NULL,
    day            date      NOT NULL,
    credential_id  uuid      NOT NULL,
    -- What it is the id of: 1 session, 2 key, 3 token; 0 if that is not known.
    kind           smallint  NOT NULL,
    route          int       NOT NULL,
    journal        int       NOT NULL,
    n              bigint    NOT NULL,
    PRIMARY KEY (project_id, day, credential_id, kind, route, journal)
-- A busy row is written once a second. With room beside it, that does not touch the index.
) WITH (fillfactor = 60);
-- The clean-up looks for the oldest days, which lie together.
CREATE INDEX usage_node_by_day ON usage_node USING brin (day);

-- The same by project and month, for months that are not final: what is asked often, in few rows.
CREATE TABLE usage_totals (
    project_id  uuid    NOT NULL,
    -- The month's first day.
    period      date    NOT NULL,
    journal     int     NOT NULL,
    requests    bigint  NOT NULL,
    PRIMARY KEY (project_id, period, journal)
) WITH (fillfactor = 60);

-- Months that are final, as they are billed.
CREATE TABLE usage_periods (
    project_id  uuid         NOT NULL,
    period      date         NOT NULL,
    requests    bigint       NOT NULL,
    -- As it was when the month became final; null for unlimited.
    included    bigint,
    final_at    timestamptz  NOT NULL,
    PRIMARY KEY (project_id, period)
);

-- What was learned of a month after it was final.
CREATE TABLE usage_adjustments (
    project_id   uuid    NOT NULL,
    period       date    NOT NULL,
    recorded_on  date    NOT NULL,
    requests     bigint  NOT NULL,
    PRIMARY KEY (project_id, period, recorded_on)
);

-- Final months by credential and route, adjustments included.
CREATE TABLE usage_monthly (
    project_id     uuid      NOT NULL,
    period         date      NOT NULL,
    credential_id  uuid      NOT NULL,
    kind           smallint  NOT NULL,
    route          int       NOT NULL,
    requests       bigint    NOT NULL,
    PRIMARY KEY (project_id, period, credential_id, kind, route)
);

-- What was counted before there were journals.
INSERT INTO usage_journals (journal, opened_at, flushed_at, closed_at)
VALUES ('00000000-0000-0000-0000-000000000000', now(), now(), now());
INSERT INTO usage_node (project_id, day, credential_id, kind, route, journal, n)
SELECT project_id, day, '00000000-0000-0000-0000-000000000000', 0, 0, 1, requests FROM usage_daily;
INSERT INTO usage_totals (project_id, period, journal, requests)
SELECT project_id, date_trunc('month', day)::date, 1, sum(requests) FROM usage_daily GROUP BY 1, 2;
DROP TABLE usage_daily;

-- The journal's number; it is open from now on, and written up to `as_of`.
CREATE FUNCTION open_usage_journal(a_journal uuid, as_of timestamptz) RETURNS int LANGUAGE sql AS $$
    INSERT INTO usage_journals (journal, opened_at, flushed_at) VALUES (a_journal, as_of, as_of)
    ON CONFLICT (journal) DO UPDATE
    SET flushed_at = greatest(usage_journals.flushed_at, excluded.flushed_at), closed_at = NULL
    RETURNING id
$$;

-- Writes what a journal has counted. False, with nothing written, if some of it belongs to a month that is final:
-- that goes through flush_late_usage_node.
CREATE FUNCTION flush_usage_node(
    a_journal uuid, as_of timestamptz,
    projects uuid[], days date[], credentials uuid[], kinds smallint[], routes int[], counts bigint[],
    total_projects uuid[], periods date[], totals bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number int;
BEGIN
    -- No month becomes final between the look and the writing. Nodes do not hinder each other.
    PERFORM pg_advisory_xact_lock_shared(hashtext('cloudapi'), hashtext('usage'));
    IF EXISTS (
        SELECT FROM unnest(total_projects, periods) AS t (project_id, period)
        JOIN usage_periods USING (project_id, period)
    ) THEN
        RETURN false;
    END IF;
    number := open_usage_journal(a_journal, as_of);
    INSERT INTO usage_node AS u (project_id, day, credential_id, kind, route, journal, n)
    SELECT r.project_id, r.day, r.credential_id, r.kind, r.route, number, r.n
    FROM unnest(projects, days, credentials, kinds, routes, counts) AS r (project_id, day, credential_id, kind, route, n)
    ON CONFLICT (project_id, day, credential_id, kind, route, journal) DO UPDATE
    SET n = excluded.n WHERE u.n < excluded.n;
    INSERT INTO usage_totals AS u (project_id, period, journal, requests)
    SELECT t.project_id, t.period, number, t.requests
    FROM unnest(total_projects, periods, totals) AS t (project_id, period, requests)
    ON CONFLICT (project_id, period, journal) DO UPDATE
    SET requests = excluded.requests WHERE u.requests < excluded.requests;
    RETURN true;
END
$$;

-- Writes what a journal has counted of months that are final: what is new of it is an adjustment. Gives how many
-- requests could not be told from those counted already, because only their months are kept; they are left out.
CREATE FUNCTION flush_late_usage_node(
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
        SELECT r.*, number AS journal
        FROM unnest(projects, days, credentials, kinds, routes, counts)
             AS r (project_id, day, credential_id, kind, route, n)
        WHERE r.day >= since
    ), added AS (
        SELECT s.*, date_trunc('month', s.day)::date AS period, s.n - coalesce(u.n, 0) AS more
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

-- Makes a month final for some projects that it is not final for yet.
CREATE FUNCTION finalize_usage(some_projects uuid[], a_period date, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- No node writes meanwhile; few projects at a time, so that none waits long.
    PERFORM pg_advisory_xact_lock(hashtext('cloudapi'), hashtext('usage'));
    WITH fresh AS (
        INSERT INTO usage_periods (project_id, period, requests, included, final_at)
        SELECT s.id, a_period,
               coalesce((SELECT sum(t.requests) FROM usage_totals t WHERE t.project_id = s.id AND t.period = a_period), 0),
               p.included, at
        FROM unnest(some_projects) AS s (id) LEFT JOIN projects p ON p.id = s.id
        ON CONFLICT DO NOTHING
        RETURNING project_id
    )
    INSERT INTO usage_monthly (project_id, period, credential_id, kind, route, requests)
    SELECT u.project_id, a_period, u.credential_id, u.kind, u.route, sum(u.n)
    FROM fresh JOIN usage_node u USING (project_id)
    WHERE u.day >= a_period AND u.day < a_period + interval '1 month'
    GROUP BY u.project_id, u.credential_id, u.kind, u.route;
    DELETE FROM usage_totals WHERE project_id = ANY (some_projects) AND period = a_period;
END
$$;

-- Of the days before `day` only whole months are kept from now on. Late counts wait, or see it.
CREATE FUNCTION raise_usage_from(a_day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM deployment WHERE usage_from < a_day;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(hashtext('cloudapi'), hashtext('usage'));
        UPDATE deployment SET usage_from = a_day WHERE usage_from < a_day;
    END IF;
END
$$;
