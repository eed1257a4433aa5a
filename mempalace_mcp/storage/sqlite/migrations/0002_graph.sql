-- The bitemporal knowledge graph. Instants are microseconds since 1970-01-01 UTC; intervals are half open.

CREATE TABLE entities (
    id   INTEGER PRIMARY KEY,
    key  TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL  -- as first written
) STRICT;

CREATE TABLE predicates (
    id   INTEGER PRIMARY KEY,
    key  TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL  -- as first written
) STRICT;

CREATE TABLE facts (
    id               INTEGER PRIMARY KEY,  -- of this version; a correction adds another one with the same fact_id
    fact_id          TEXT    NOT NULL,
    subject          INTEGER NOT NULL REFERENCES entities,
    predicate        INTEGER NOT NULL REFERENCES predicates,
    object           TEXT    NOT NULL,             -- verbatim
    object_entity    INTEGER REFERENCES entities,  -- NULL where the object cannot be a name, a long text for example
    valid_from       INTEGER,
    valid_to         INTEGER,
    recorded_at      INTEGER NOT NULL,
    retracted_at     INTEGER CHECK (retracted_at > recorded_at),
    confidence       REAL    CHECK (confidence BETWEEN 0 AND 1),
    source_drawer_id TEXT,                         -- stays when the drawer is purged
    since            INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(valid_from, -9000000000000000000)) VIRTUAL,
    until            INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(valid_to,    9000000000000000000)) VIRTUAL,
    CHECK (since < until)
) STRICT;

CREATE INDEX facts_by_triple  ON facts (subject, predicate, object)                WHERE retracted_at IS NULL;
CREATE INDEX facts_by_since   ON facts (since, recorded_at)                        WHERE retracted_at IS NULL;
CREATE INDEX facts_by_subject ON facts (subject, retracted_at, until, since);
CREATE INDEX facts_by_object  ON facts (object_entity, retracted_at, until, since) WHERE object_entity IS NOT NULL;
