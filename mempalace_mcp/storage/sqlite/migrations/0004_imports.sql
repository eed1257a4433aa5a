-- What was imported: which drawer holds what a record of a transcript said, or a part of a note. Before, this was an
-- entry of the drawer's own metadata, known by the place in the file.

CREATE TABLE import_files (
    id      INTEGER PRIMARY KEY,
    path    TEXT NOT NULL UNIQUE,
    state   TEXT,              -- of the file when it was last read to its end without a problem
    drawers INTEGER NOT NULL DEFAULT 0  -- that hold what it said then
) STRICT;

CREATE TABLE imported (
    drawer INTEGER PRIMARY KEY REFERENCES drawers ON DELETE CASCADE,
    file   INTEGER NOT NULL REFERENCES import_files,
    digest TEXT    NOT NULL  -- of the text that was written last; if the drawer's is another, somebody has edited it
) STRICT;
CREATE INDEX imported_by_file ON imported (file);

CREATE TABLE said (
    key    INTEGER PRIMARY KEY,  -- of a record, or of a piece of a long one, wherever it is found
    drawer INTEGER REFERENCES drawers ON DELETE SET NULL,  -- NULL once it is purged: what was deleted stays so
    digest INTEGER NOT NULL
) STRICT;
CREATE INDEX said_by_drawer ON said (drawer);

CREATE TABLE parts (
    file   INTEGER NOT NULL REFERENCES import_files,
    part   TEXT    NOT NULL,
    drawer INTEGER REFERENCES drawers ON DELETE SET NULL,
    digest TEXT    NOT NULL,
    gone   INTEGER NOT NULL DEFAULT 0,  -- 1: it went into the trash because it went out of its file
    PRIMARY KEY (file, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_by_drawer ON parts (drawer);

CREATE TABLE unidentified (  -- drawers from transcripts, filed before records were known: recognized by text and time
    drawer      INTEGER PRIMARY KEY REFERENCES drawers ON DELETE CASCADE,
    occurred_at INTEGER
) STRICT;
CREATE INDEX unidentified_by_time ON unidentified (occurred_at);

CREATE TEMP TABLE marked AS
    SELECT id, source_file, metadata ->> '$.import.key' AS part, metadata ->> '$.import.digest' AS digest,
        deleted_at IS NULL AS live, occurred_at, lower(source_file) LIKE '%.jsonl' AS is_transcript
    FROM drawers WHERE source_file IS NOT NULL AND json_type(metadata, '$.import.key') = 'text'
        AND json_type(metadata, '$.import.digest') = 'text';
-- Where somebody had replaced the metadata, the mark was lost with it.
INSERT INTO marked
    SELECT id, source_file, '', lower(hex(content_hash)), deleted_at IS NULL, occurred_at,
        lower(source_file) LIKE '%.jsonl'
    FROM drawers WHERE source_file IS NOT NULL AND added_by = 'import' AND id NOT IN (SELECT id FROM marked)
        AND (lower(source_file) LIKE '%.jsonl' OR source_file NOT IN (SELECT source_file FROM marked));

INSERT INTO import_files (path) SELECT DISTINCT source_file FROM marked;
INSERT INTO imported (drawer, file, digest)
    SELECT m.id, f.id, m.digest FROM marked m JOIN import_files f ON f.path = m.source_file;
INSERT INTO unidentified (drawer, occurred_at) SELECT id, occurred_at FROM marked WHERE is_transcript;
INSERT OR REPLACE INTO parts (file, part, drawer, digest)
    SELECT f.id, m.part, m.id, m.digest FROM marked m JOIN import_files f ON f.path = m.source_file
    WHERE NOT m.is_transcript ORDER BY m.live, m.id;

UPDATE drawers SET metadata = json_remove(metadata, '$.import')
    WHERE json_type(metadata, '$.import.key') = 'text' AND json_type(metadata, '$.import.digest') = 'text';
UPDATE versions SET metadata = json_remove(metadata, '$.import')
    WHERE json_type(metadata, '$.import.key') = 'text' AND json_type(metadata, '$.import.digest') = 'text';
DROP TABLE temp.marked;
