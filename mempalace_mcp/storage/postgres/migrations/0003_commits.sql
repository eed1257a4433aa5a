-- What was committed of late. A server whose COMMIT is not answered looks here whether it was done. The numbers that
-- PostgreSQL gives to transactions do not tell: after a crash or a failover it gives some of them again.

CREATE TABLE commits (
    name uuid PRIMARY KEY  -- milliseconds since 1970 in its first six bytes, so that old ones go together; then chance
);
