-- Labels of resources, for lists: a row for `key` and one for `key=value`. A row has everything that a list of one label can be
-- filtered by. Instead of the phase, which each operation changes twice, it has the phase's class.
CREATE TABLE resource_labels (
    project_id   uuid  NOT NULL,
    term         text  NOT NULL,
    class        text  NOT NULL,
    kind         text  NOT NULL,
    provider     text  NOT NULL,
    resource_id  uuid  NOT NULL,
    PRIMARY KEY (project_id, term, class, kind, provider, resource_id)
);

CREATE FUNCTION label_terms(labels jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS
    $$ SELECT coalesce(array_agg(l.key), '{}') || coalesce(array_agg(l.key || '=' || l.value), '{}') FROM jsonb_each_text(labels) l $$;

CREATE FUNCTION phase_class(phase text) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN phase IN ('failed', 'deleted') THEN phase ELSE 'live' END $$;

CREATE FUNCTION index_resource_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM resource_labels
        WHERE project_id = OLD.project_id AND term = ANY (label_terms(OLD.labels)) AND class = phase_class(OLD.phase)
          AND kind = OLD.kind AND provider = OLD.provider AND resource_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO resource_labels (project_id, term, class, kind, provider, resource_id)
        SELECT NEW.project_id, t.term, phase_class(NEW.phase), NEW.kind, NEW.provider, NEW.id
        FROM unnest(label_terms(NEW.labels)) AS t (term);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER resources_labeled AFTER INSERT ON resources FOR EACH ROW
    WHEN (NEW.labels <> '{}') EXECUTE FUNCTION index_resource_labels();
-- The phase's class changes if it was or becomes `failed` or `deleted`.
CREATE TRIGGER resources_relabeled AFTER UPDATE OF labels, phase ON resources FOR EACH ROW
    WHEN (OLD.labels <> NEW.labels
          OR OLD.labels <> '{}' AND OLD.phase <> NEW.phase AND (OLD.phase = 'failed' OR NEW.phase IN ('failed', 'deleted')))
    EXECUTE FUNCTION index_resource_labels();
CREATE TRIGGER resources_unlabeled AFTER DELETE ON resources FOR EACH ROW
    WHEN (OLD.labels <> '{}') EXECUTE FUNCTION index_resource_labels();

INSERT INTO resource_labels (project_id, term, class, kind, provider, resource_id)
SELECT r.project_id, t.term, phase_class(r.phase), r.kind, r.provider, r.id
FROM resources r CROSS JOIN LATERAL unnest(label_terms(r.labels)) AS t (term)
WHERE r.labels <> '{}';
