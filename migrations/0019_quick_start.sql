-- The key and the session that the last start on a terminal showed. Their secrets are not stored, so each start gives
-- the key a new secret and ends the session, instead of leaving one more of each that nobody uses.
CREATE TABLE quick_start (
    only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key_id     uuid    REFERENCES keys ON DELETE SET NULL,
    session_id uuid    REFERENCES sessions ON DELETE SET NULL
);
INSERT INTO quick_start DEFAULT VALUES;
