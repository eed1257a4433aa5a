"""What is SQLite's own: files, connections, transactions, full text, backup, migrations."""

DATABASE_FILE = "palace.db"
