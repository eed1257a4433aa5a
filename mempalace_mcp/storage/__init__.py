"""The truth in SQLite, and the vector indexes derived from it."""
