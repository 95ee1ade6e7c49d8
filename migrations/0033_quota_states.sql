-- Which bounds the projects with a quota have reached. Servers read what is newer than what they know, so that no server
-- adds up the usage of every project with a quota again and again.
CREATE TABLE quota_states (
    project_id  uuid      NOT NULL,
    -- The month's first day. January 1970 stands for every month: a hard limit of 0 is reached without usage.
    period      date      NOT NULL,
    requests    bigint    NOT NULL,
    included    bigint,
    hard_limit  bigint,
    -- A bit for each: 80 % and 100 % of the included volume, 80 % and 100 % of the hard limit.
    reached     smallint  NOT NULL,
    version     bigint    NOT NULL,
    PRIMARY KEY (project_id, period)
);
CREATE INDEX quota_states_by_version ON quota_states (version);

CREATE TABLE quota_clock (
    only_row  boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Version of the newest states.
    version   bigint   NOT NULL
);
INSERT INTO quota_clock (version) VALUES (0);

-- What has changed of these pairs of a project and a month.
CREATE FUNCTION changed_quota_states(projects uuid[], periods date[])
RETURNS TABLE (project_id uuid, period date, requests bigint, included bigint, hard_limit bigint, reached smallint)
LANGUAGE sql STABLE AS $$
    SELECT p.id, t.period, u.requests, p.included, p.hard_limit, r.reached
    FROM (SELECT DISTINCT n.project_id, n.period FROM unnest(projects, periods) AS n (project_id, period)) t
    JOIN projects p ON p.id = t.project_id
    LEFT JOIN quota_states s ON s.project_id = t.project_id AND s.period = t.period
    CROSS JOIN LATERAL (SELECT coalesce(sum(x.requests), 0)::bigint AS requests
                        FROM usage_totals x WHERE x.project_id = t.project_id AND x.period = t.period) u
    CROSS JOIN LATERAL (SELECT (coalesce((u.requests::numeric * 5 >= p.included::numeric * 4)::int, 0)
                              + coalesce((u.requests >= p.included)::int, 0) * 2
                              + coalesce((u.requests::numeric * 5 >= p.hard_limit::numeric * 4)::int, 0) * 4
                              + coalesce((u.requests >= p.hard_limit)::int, 0) * 8)::smallint AS reached) r
    WHERE (p.included IS NOT NULL OR p.hard_limit IS NOT NULL OR s.project_id IS NOT NULL)
      AND (r.reached > 0 OR s.project_id IS NOT NULL)
      AND (s.reached, s.included, s.hard_limit) IS DISTINCT FROM (r.reached, p.included, p.hard_limit)
$$;

-- Updates the states of these pairs of a project and a month.
CREATE FUNCTION evaluate_quotas(projects uuid[], periods date[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    new_version bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM changed_quota_states(projects, periods)) THEN
        RETURN;
    END IF;
    -- Locked until the commit, so that versions increase in the order of commits. What follows sees all usage that was
    -- committed before.
    UPDATE quota_clock SET version = quota_clock.version + 1 RETURNING quota_clock.version INTO new_version;
    INSERT INTO quota_states AS s (project_id, period, requests, included, hard_limit, reached, version)
    SELECT c.project_id, c.period, c.requests, c.included, c.hard_limit, c.reached, new_version
    FROM changed_quota_states(projects, periods) c
    ON CONFLICT (project_id, period) DO UPDATE
    SET requests = excluded.requests, included = excluded.included, hard_limit = excluded.hard_limit,
        reached = excluded.reached, version = excluded.version;
END
$$;

CREATE FUNCTION evaluate_changed_quota() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    months date[] := ARRAY(SELECT DISTINCT period FROM usage_totals WHERE project_id = NEW.id) || '1970-01-01'::date;
BEGIN
    PERFORM evaluate_quotas(array_fill(NEW.id, ARRAY[cardinality(months)]), months);
    RETURN NULL;
END
$$;
CREATE TRIGGER quota_states AFTER UPDATE OF included, hard_limit ON projects
FOR EACH ROW WHEN (OLD.included IS DISTINCT FROM NEW.included OR OLD.hard_limit IS DISTINCT FROM NEW.hard_limit)
EXECUTE FUNCTION evaluate_changed_quota();

SELECT evaluate_quotas(array_agg(p.id), array_agg(t.period))
FROM projects p
CROSS JOIN LATERAL (SELECT DISTINCT period FROM usage_totals WHERE project_id = p.id UNION SELECT '1970-01-01') t
WHERE p.included IS NOT NULL OR p.hard_limit IS NOT NULL;
