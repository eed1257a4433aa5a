"""The tools. Each is a typed function; a refusal is a `PalaceError`."""
