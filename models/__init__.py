"""The catalog: SQLModel tables, their states and queries. Sessions are opened by `tasks.resources`, never here."""
