-- What came from other memories: under which id each item was known there.

CREATE TABLE foreign_ids (
    id     TEXT NOT NULL,
    source TEXT NOT NULL,  -- the kind of memory, and its path where ids are unique only within it
    drawer INTEGER REFERENCES drawers ON DELETE SET NULL,  -- NULL for a fact, and once the drawer is purged
    digest BLOB,           -- of the text as it was there; NULL for a fact, and for a further id of a drawer
    PRIMARY KEY (id, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX foreign_ids_by_drawer ON foreign_ids (drawer);
CREATE INDEX foreign_ids_by_source ON foreign_ids (source, id);
