-- Which projects were told that a month nears or has reached what it includes or may reach. Each is told once, however
-- many servers see it and however often they restart; of another bound anew. Without foreign keys, as usage itself.
CREATE TABLE quota_notices (
    project_id  uuid      NOT NULL,
    -- The month's first day.
    period      date      NOT NULL,
    quota       text      NOT NULL CHECK (quota IN ('included', 'hard_limit')),
    -- What it was at that time.
    bound       bigint    NOT NULL,
    percent     smallint  NOT NULL CHECK (percent IN (80, 100)),
    PRIMARY KEY (project_id, period, quota, bound, percent)
);

-- Each server looks at these projects once a second.
DROP INDEX projects_with_hard_limit;
CREATE INDEX projects_with_quota ON projects (id) WHERE hard_limit IS NOT NULL OR included IS NOT NULL;
