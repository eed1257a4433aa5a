"""Vectors served from two parts: a prefix of the log in Chroma, the rest in an exact matrix; SQLite decides."""
