"""What makes one guest different from another, by operation: the data of generalising, without its work.

The names are virt-sysprep's (https://libguestfs.org/virt-sysprep.1.html), with `cloud-init` and `random-seed` beside them.
Users, passwords and authorized keys are in no operation. `guest_files` says what a pattern matches.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20

MAX_REMOVED = 2_000
"""Entries of a report; the rest is counted."""
MAX_NOTES = 200
MAX_MOUNTS = 64
MAX_ENTRIES = 20_000
"""Entries of folders that are looked at, in all."""
MAX_DEPTH = 40
LISTING_BYTES = 8 * MIB
"""The names in one folder."""
FILE_BYTES = 64 * MIB
"""How much of one file is overwritten before it goes."""
ALL_BYTES = 512 * MIB
PIECE = MIB

IO_ERROR = "Input/output error"
"""How the appliance ends a message about a disk that does not answer, which is no fault of the path it names."""

MACHINE_ID = "/etc/machine-id"
"""Is never absent afterwards: systemd takes an empty one for a first boot, and fails to make it on a read-only root."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Patterns of paths: what `remove` matches goes, a folder with all in it; of `remove_files` only regular files go; the
    regular files of `empty` stay with owner and mode. What an earlier pattern took is not looked at again."""

    name: str
    remove: tuple[str, ...] = ()
    remove_files: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


_HOMES = ("/root", "/home/*", "/var/roothome", "/var/home/*")
HISTORIES = (
    ".*_history",
    ".*_history-*.tmp",
    ".history",
    ".zhistory",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
    ".zsh_sessions",
    ".local/share/fish/fish_history",
    ".local/state/python_history",
)
_ROTATED = ("*.gz", "*.xz", "*.bz2", "*.zst", "*.old", "*.[0-9]", "*.[0-9][0-9]", "*-20[0-9]*", "*.journal*")

OPERATIONS = (
    Operation(name="ssh-hostkeys", remove=("/etc/ssh/*_host_*", "/etc/dropbear/*_host_key*")),
    Operation(name="machine-id", empty=(MACHINE_ID,), remove_files=("/var/lib/dbus/machine-id",)),
    Operation(
        name="cloud-init",
        remove=(
            "/var/lib/cloud/instance",
            "/var/lib/cloud/instances/*",
            "/var/lib/cloud/data/*",
            "/var/lib/cloud/sem/*",
            "/var/log/cloud-init*.log*",
            "/run/cloud-init",
        ),
    ),
    Operation(
        name="random-seed",
        remove=("/var/lib/systemd/random-seed", "/var/lib/random-seed", "/var/lib/systemd/credential.secret"),
    ),
    Operation(
        name="dhcp-client-state",
        remove=(
            "/var/lib/dhcp/*",
            "/var/lib/dhclient/*",
            "/var/lib/dhcpcd/*",
            "/var/lib/NetworkManager/*.lease",
            "/var/lib/NetworkManager/secret_key",
        ),
    ),
    Operation(name="udev-persistent-net", remove=("/etc/udev/rules.d/*-persistent-net.rules",)),
    Operation(name="bash-history", remove=tuple(f"{home}/{name}" for home in _HOMES for name in HISTORIES)),
    Operation(name="mail-spool", remove=("/var/mail/*", "/var/spool/mail/*")),
    Operation(
        name="crash-data",
        remove=("/var/crash/*", "/var/spool/abrt/*", "/var/lib/systemd/coredump/*", "/var/lib/apport/coredump/*"),
    ),
    Operation(name="utmp", remove=("/run/utmp", "/var/run/utmp")),
    Operation(
        name="logfiles",
        remove=("/var/log/journal/*", "/var/log/dump/*"),
        remove_files=tuple(f"/var/log/**/{name}" for name in _ROTATED),
        empty=("/var/log/**/*",),
    ),
    Operation(name="tmp-files", remove=("/tmp/*", "/var/tmp/*")),  # noqa: S108 - folders of the guest, not of this host
)
"""In this order, so that a guest with a million temporary files loses nothing but their turn."""
