-- The tokens of each passage in their order, which scoring needs and FTS5 keeps to itself. A passage without them was
-- written by an older version, and is tokenized whenever it is scored.

CREATE TABLE passage_tokens (
    chunk  INTEGER PRIMARY KEY,
    tokens BLOB NOT NULL  -- little-endian CRC-32 of each token as the index holds it
) STRICT;
