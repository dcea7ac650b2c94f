"""Manifests in a bucket, each under the SHA-256 of its bytes. What a manifest is, is in `manifest.py`."""

from __future__ import annotations

import re

import zstandard

from tasks.engine.blobs.chunks import FRAME_OVERHEAD, LEVEL, pack, unpack
from tasks.engine.blobs.manifest import Manifest, ManifestDigest, largest_manifest, manifest_digest
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.errors import Damaged

MANIFEST_PREFIX = "manifests/"


def manifest_key(digest: ManifestDigest) -> str:
    """Where a manifest is in its bucket. Raises ValueError for what cannot be a digest."""
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is no manifest digest")
    return MANIFEST_PREFIX + digest


def put_manifest(objects: ObjectStore, manifest: Manifest) -> ManifestDigest:
    """Store a manifest whose chunks are all stored: from now on the disk exists. Again is the same."""
    raw = manifest.to_bytes()
    digest = manifest_digest(raw)
    objects.put(manifest_key(digest), pack(raw, compressor=zstandard.ZstdCompressor(level=LEVEL)))
    return digest


def get_manifest(objects: ObjectStore, digest: ManifestDigest) -> Manifest:
    """A manifest, proved to be the one named. Raises Missing, or Damaged naming it."""
    limit = largest_manifest()
    body = objects.get(manifest_key(digest), limit=limit + FRAME_OVERHEAD)
    try:
        raw = unpack(body, limit=limit, decompressor=zstandard.ZstdDecompressor())
        del body
        if manifest_digest(raw) != digest:
            raise Damaged("its bytes have another SHA-256")
        return Manifest.parse(raw)
    except Damaged as error:
        raise Damaged(f"manifest {digest} is damaged: {error.message}") from error
