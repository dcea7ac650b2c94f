"""The schema's history, run by `models.database.migrate`; what the tables look like now is `models.tables`."""
