"""The lifecycles: one verb per module, each a Prefect flow a person can run. The steps are in `tasks`."""
