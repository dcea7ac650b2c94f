"""The pre-flight: what the headers of an external file tell before a byte of it moves. `ims image check` and imports use it.

No Prefect here, so that the check answers at once.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.engine.disks.bytesource import PrefixBytes
from tasks.engine.disks.formats import DiskFormat
from tasks.engine.disks.package import PREFIX_BYTES, Summary, look, look_at_start
from tasks.engine.disks.wrappers import MAGIC_LENGTH, detect_wrapper
from tasks.engine.errors import SourceRefused
from tasks.engine.inbox.names import check_name
from tasks.engine.settings import load_settings
from tasks.engine.sources.download import fetch_start
from tasks.resources import inbox_bucket

INBOX_SECONDS = 6 * 3600
"""How long the address of an inbox object stays valid for the import that asked for it."""


def check_source(account: str, source: str, *, declared: DiskFormat | None, etag: str = "") -> Summary:
    """What the headers of a path, an inbox object or a URL tell. Raises DiskRefused, SourceRefused or SourceUnavailable."""
    limit = load_settings().max_disk_bytes
    if not is_remote(source):
        return look(local_file(source), declared=declared, max_virtual_size=limit)
    url, allow = remote_address(account, source)
    start, total = fetch_start(url, PREFIX_BYTES, allow=allow, etag=etag)
    if detect_wrapper(start[:MAGIC_LENGTH]):
        return Summary(declared, 0, 0)
    prefix = PrefixBytes(start, complete=total is not None and total == len(start))
    return look_at_start(prefix, declared=declared, max_virtual_size=limit)


def is_remote(source: str) -> bool:
    """Whether the source must be brought here first."""
    return source.startswith(("inbox:", "http://", "https://"))


def remote_address(account: str, source: str) -> tuple[str, str]:
    """The URL of a remote source, and the hosts it may be on although they are not public."""
    settings = load_settings()
    if not source.startswith("inbox:"):
        return source, settings.url_allow
    url = inbox_bucket().presign(inbox_key(account, source), seconds=INBOX_SECONDS)
    return url, settings.s3_endpoint


def inbox_key(account: str, source: str) -> str:
    """Key of an inbox object; every account has its own folder and cannot name another's."""
    return f"{account}/{check_name(source.removeprefix('inbox:'))}"


def local_file(source: str) -> Path:
    """A readable regular file. Raises SourceRefused."""
    path = Path(source)
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise SourceRefused("missing", f"{source} cannot be read: {error}", remedy="Check the path.") from error
    if not stat.S_ISREG(kind):
        raise SourceRefused("not_a_file", f"{source} is not a regular file", remedy="Give the image file itself.")
    if not os.access(path, os.R_OK):
        raise SourceRefused("denied", f"{source} may not be read by this process", remedy="Change its permissions.")
    return path
