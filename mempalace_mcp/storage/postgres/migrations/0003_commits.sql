-- What was committed of late. A server whose COMMIT is not answered looks here whether it was done. The numbers that
-- PostgreSQL gives to transactions do not tell: after a crash or a failover it gives some of them again.

CREATE TABLE commits (
    seq  bigint      NOT NULL,  -- the last one before it: old commits are found by it
    name uuid        NOT NULL,  -- of the transaction, chosen by its server
    at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (seq, name)
);
