"""The database of a palace, and the vector indexes derived from it."""
