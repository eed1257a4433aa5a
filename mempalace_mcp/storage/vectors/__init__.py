"""Vector search: Chroma has the synced part of the log, an exact matrix the unsynced tail, and SQLite decides."""
