"""Migration: what other memories hold comes into the palace, and stays findable under its old ids.

A source (`sources/`) reads one kind of memory and yields items; it writes nothing anywhere. `migrating.py` files them.
"""
