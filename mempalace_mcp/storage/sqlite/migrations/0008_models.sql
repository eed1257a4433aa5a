-- A palace moves to another embedding model while it serves: the new vectors are collected in `other_vectors`, and when
-- they are complete, the two tables change their names. What is in `other_vectors` then is dropped little by little.

CREATE TABLE other_model (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    name         TEXT    NOT NULL,
    quantization TEXT    NOT NULL,
    dimension    INTEGER NOT NULL,
    wanted       INTEGER NOT NULL  -- 1: the palace moves to this model; 0: the vectors of this model are being dropped
) STRICT;

CREATE TABLE other_vectors (
    position  INTEGER PRIMARY KEY AUTOINCREMENT,
    chunk     INTEGER NOT NULL UNIQUE REFERENCES chunks ON DELETE CASCADE,
    embedding BLOB    NOT NULL
) STRICT;

ALTER TABLE state ADD COLUMN moves INTEGER NOT NULL DEFAULT 0;  -- how often the two tables have changed their names
