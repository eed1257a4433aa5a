-- The words of passages. A token is the CRC-32 of its letters: `raw` has them as unsigned numbers of four bytes, the
-- lowest first, for scoring; `tokens` has the same ones as signed numbers, for the index.

CREATE TABLE passages (
    chunk  bigint PRIMARY KEY,  -- without a reference, so that the table can be made anew beside readers
    tokens int4[] NOT NULL,
    raw    bytea  NOT NULL
);
ALTER TABLE passages ALTER COLUMN tokens SET STORAGE EXTERNAL;  -- checksums cannot be compressed
ALTER TABLE passages ALTER COLUMN raw    SET STORAGE EXTERNAL;
CREATE INDEX passages_by_token ON passages USING gin (tokens)
    WITH (fastupdate = off);  -- a pending list takes no less time, but takes it at once from one writer under the lock

CREATE TABLE words (  -- the tokens of all passages, to find those that begin alike
    word   text    COLLATE "C" NOT NULL,  -- its first 256 characters
    number integer NOT NULL,
    PRIMARY KEY (word, number)
);

CREATE TABLE loose_words (  -- tokens of removed passages: the next purge drops those that no passage holds
    number integer PRIMARY KEY
);

CREATE TABLE lexicon (  -- totals by which words are weighed, kept in the transaction that changes the passages
    id        integer PRIMARY KEY CHECK (id = 1),
    passages  bigint NOT NULL,
    tokens    bigint NOT NULL,
    stale     bigint NOT NULL,  -- passages up to this number hold words as earlier versions read them
    forgotten bigint NOT NULL DEFAULT 0  -- how often words were dropped: servers remember which ones are there
) WITH (fillfactor = 10);
INSERT INTO lexicon (id, passages, tokens, stale) VALUES (1, 0, 0, 0);
