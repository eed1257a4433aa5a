-- Drawers, their chunks, vectors and words. Instants are microseconds since 1970-01-01 UTC.

CREATE TABLE state (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    palace_id   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    seq         INTEGER NOT NULL,  -- grows by one with every unit of work that changes something
    recorded_at INTEGER NOT NULL   -- instant of the last one; strictly increasing, whatever the clock does
) STRICT;

CREATE TABLE model (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    name         TEXT    NOT NULL,
    quantization TEXT    NOT NULL,
    dimension    INTEGER NOT NULL
) STRICT;

CREATE TABLE wings (
    id   INTEGER PRIMARY KEY,
    key  TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL
) STRICT;

CREATE TABLE rooms (
    id      INTEGER PRIMARY KEY,
    wing    INTEGER NOT NULL REFERENCES wings,
    key     TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    drawers INTEGER NOT NULL DEFAULT 0,  -- live ones, kept by the triggers below
    UNIQUE (wing, key)
) STRICT;

CREATE TABLE drawers (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    drawer_id       TEXT    NOT NULL UNIQUE,
    wing            INTEGER NOT NULL REFERENCES wings,
    room            INTEGER NOT NULL REFERENCES rooms,
    occurred_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER,
    when_at         INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(occurred_at, created_at)) VIRTUAL,
    version         INTEGER NOT NULL DEFAULT 1,
    seq             INTEGER NOT NULL,
    content_hash    BLOB    NOT NULL,  -- of the exact bytes
    normalized_hash BLOB    NOT NULL,  -- of the form by which near duplicates are found
    source_file     TEXT,
    added_by        TEXT,
    metadata        TEXT    NOT NULL DEFAULT '{}',
    content         TEXT    NOT NULL
) STRICT;

CREATE INDEX drawers_by_when       ON drawers (deleted_at, when_at, id);
CREATE INDEX drawers_by_wing       ON drawers (wing, deleted_at, when_at, id);
CREATE INDEX drawers_by_room       ON drawers (room, deleted_at, when_at, id);
CREATE INDEX drawers_by_source     ON drawers (source_file, deleted_at, when_at, id) WHERE source_file IS NOT NULL;
CREATE INDEX drawers_by_content    ON drawers (content_hash, room)    WHERE deleted_at IS NULL;
CREATE INDEX drawers_by_normalized ON drawers (normalized_hash, room) WHERE deleted_at IS NULL;
CREATE INDEX drawers_by_seq        ON drawers (seq);

CREATE TRIGGER drawer_filed AFTER INSERT ON drawers WHEN new.deleted_at IS NULL BEGIN
    UPDATE rooms SET drawers = drawers + 1 WHERE id = new.room;
END;
CREATE TRIGGER drawer_moved AFTER UPDATE OF room, deleted_at ON drawers BEGIN
    UPDATE rooms SET drawers = drawers - 1 WHERE id = old.room AND old.deleted_at IS NULL;
    UPDATE rooms SET drawers = drawers + 1 WHERE id = new.room AND new.deleted_at IS NULL;
END;
CREATE TRIGGER drawer_purged AFTER DELETE ON drawers WHEN old.deleted_at IS NULL BEGIN
    UPDATE rooms SET drawers = drawers - 1 WHERE id = old.room;
END;

CREATE TABLE versions (
    drawer      INTEGER NOT NULL REFERENCES drawers ON DELETE CASCADE,
    version     INTEGER NOT NULL,
    wing        TEXT    NOT NULL,
    room        TEXT    NOT NULL,
    occurred_at INTEGER,
    replaced_at INTEGER NOT NULL,
    source_file TEXT,
    metadata    TEXT    NOT NULL,
    content     TEXT    NOT NULL,
    PRIMARY KEY (drawer, version)
) STRICT;

CREATE TABLE chunks (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, also not after a purge
    drawer  INTEGER NOT NULL REFERENCES drawers ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    start   INTEGER NOT NULL,  -- characters of the drawer's content, half open
    stop    INTEGER NOT NULL
) STRICT;
CREATE INDEX chunks_by_drawer ON chunks (drawer);

CREATE TABLE pending (
    chunk INTEGER PRIMARY KEY REFERENCES chunks ON DELETE CASCADE,
    bulk  INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_by_priority ON pending (bulk, chunk);

CREATE TABLE vectors (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,  -- the log that the vector indexes follow
    chunk     INTEGER NOT NULL UNIQUE REFERENCES chunks ON DELETE CASCADE,
    embedding BLOB    NOT NULL                    -- little-endian float32, unit length
) STRICT;

CREATE VIRTUAL TABLE passages USING fts5 (text, tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'");

CREATE TABLE diary (
    drawer INTEGER PRIMARY KEY REFERENCES drawers ON DELETE CASCADE,
    agent  TEXT NOT NULL,  -- key
    name   TEXT NOT NULL,
    topic  TEXT NOT NULL,  -- key
    title  TEXT NOT NULL
) STRICT;
CREATE INDEX diary_by_agent ON diary (agent, drawer);
CREATE INDEX diary_by_topic ON diary (agent, topic, drawer);

CREATE TABLE receipts (
    scope       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    digest      BLOB    NOT NULL,  -- of the request, to tell a replay from another request under the same key
    answer      TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_age ON receipts (recorded_at);
