"""The sample guest: a small Debian-made disk that boots in seconds, for demonstrations and tests.

It is a real guest (kernel, ext4 root, SSH, QEMU guest agent, NoCloud seed), not a distribution: README.md in this folder
says what it supports. `fetch` needs the network once; `build` needs neither network nor root.
"""

from __future__ import annotations

from deployments.sample_guest.builder import build
from deployments.sample_guest.packages import fetch

__all__ = ["build", "fetch"]
