-- The tokens of passages in their order, which scoring needs in large tables and FTS5 keeps to itself. A passage that
-- has none yet is tokenized whenever it is scored.

CREATE TABLE passage_tokens (
    chunk  INTEGER PRIMARY KEY,
    tokens BLOB NOT NULL  -- little-endian CRC-32 of each token as the index holds it
) STRICT;
