"""Nearest neighbours: exact, in Chroma, and both joined with the truth."""
