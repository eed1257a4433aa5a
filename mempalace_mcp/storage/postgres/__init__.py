"""The palace in PostgreSQL, for any number of servers: a schema with its tables, and pgvector for the vectors.

It needs the extra `postgres`; nothing outside this folder imports psycopg.
"""
