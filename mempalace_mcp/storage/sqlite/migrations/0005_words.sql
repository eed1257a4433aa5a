-- Totals by which words are weighed, kept in the transaction that changes the passages. Passages up to the number
-- `stale` are still indexed as earlier versions did it; they are indexed anew in the background, the latest first.

CREATE VIRTUAL TABLE passage_words USING fts5vocab (passages, 'row');

CREATE TABLE lexicon (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    passages INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    stale    INTEGER NOT NULL
) STRICT;

INSERT INTO lexicon (id, passages, tokens, stale)
    SELECT 1, (SELECT count(*) FROM passages), (SELECT coalesce(sum(cnt), 0) FROM passage_words),
           (SELECT coalesce(max(id), 0) FROM chunks);
