"""Export of a palace as JSON Lines, and reading it back: the format is in docs/export.md."""
