"""Disks served over NBD from the chunk store: the host's chunk cache, the exports, and the nbdkit plugin that offers them.

The process that keeps this server running is `tasks.engine.host`; the guests that read from it are in `tasks.engine.guests`.
"""
