-- Who may use the server over HTTP. A token itself is stored nowhere, only its SHA-256 digest.

CREATE TABLE access_tokens (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    digest BLOB CHECK (length(digest) = 32),  -- NULL once it is revoked: the server still asks for tokens then
    scope  TEXT NOT NULL CHECK (scope IN ('read', 'write')),
    wings  TEXT                               -- a JSON array of names as written; NULL for the whole palace
) STRICT;
