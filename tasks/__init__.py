"""The steps of the lifecycles: one noun per module, each a retryable Prefect task. What they do is in `tasks.engine`."""
