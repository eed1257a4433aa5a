-- Tunnels that agents dig between rooms. Rooms of the same name in several wings are connected without one.

CREATE TABLE tunnels (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    tunnel_id        TEXT    NOT NULL UNIQUE,
    source           INTEGER NOT NULL REFERENCES rooms,
    target           INTEGER NOT NULL REFERENCES rooms,
    label            TEXT    NOT NULL,
    source_drawer_id TEXT,
    target_drawer_id TEXT,
    created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX tunnels_by_source ON tunnels (source);
CREATE INDEX tunnels_by_target ON tunnels (target);
CREATE INDEX rooms_by_key ON rooms (key);
