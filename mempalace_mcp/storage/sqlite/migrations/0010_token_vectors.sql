-- Vectors of the tokens of chunks, by which search matches a question word by word. They are stored in the transaction
-- that stores the chunk's vector. Chunks that an earlier version gave a vector get them in the background.

CREATE TABLE token_vectors (
    chunk  INTEGER PRIMARY KEY REFERENCES chunks ON DELETE CASCADE,
    packed BLOB NOT NULL  -- 32 bytes for each token that tells something
) STRICT;

CREATE TABLE token_backlog (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL  -- up to this chunk some may have a vector and no token vectors; 0 when all have both
) STRICT;

INSERT INTO token_backlog (id, last) SELECT 1, coalesce(max(chunk), 0) FROM vectors;
