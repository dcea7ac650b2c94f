"""Chunks and manifests in an object store. Where their bytes come from is `tasks.engine.disks`."""
