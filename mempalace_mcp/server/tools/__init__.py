"""The tools: typed arguments in, JSON out; every refusal is a `PalaceError`."""
