"""How far the publish gate's disk scan goes and what its findings are called: data without its work.

`scan_child` walks the disk; what a finding is recognised by is in `c_secrets`. Whatever changes what a scan finds on the same
bytes changes `content.RULES` too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.engine.inspection.content import Severity

MIB = 1 << 20

MAX_FILES = 200_000
"""Entries of the guest's folders that are streamed, in all."""
ALL_BYTES = 1024 * MIB
"""Of content that is streamed, in all; some 6 MB/s leave the appliance under TCG."""
FILE_BYTES = 1 * MIB
"""How much of a file is searched."""
WHOLE_BYTES = 32 * MIB
"""How much is read of a file that is parsed as a whole."""
KEPT_BYTES = 2 * WHOLE_BYTES
MAX_KEPT = 2_000
"""Of such files, in all."""
RESUME_BYTES = 4 * MIB
"""What is left of a file beyond this is not waited for: the stream is ended and resumed behind the file, at this price."""
EXCLUDE_BYTES = 1 * MIB
"""Names that a resumed stream leaves out; a message to the appliance holds 4 MiB."""
LISTING_BYTES = 8 * MIB
HEADER_BYTES = 64 << 10
"""A name in a tar stream."""
MAX_TOP_ENTRIES = 2_000
"""Of /."""
MAX_TOP_FOLDERS = 64
MAX_MOUNTS = 64
MAX_DEVICES = 64
MAX_OTHERS = 16
"""File systems that no system on the disk mounts."""
MAX_LINKS = 500
"""Links whose name matters, so that what they lead to is read once more."""

ROOTS = (
    "/etc",
    "/var/lib/dpkg",
    "/lib/apk/db",
    "/usr/lib/apk/db",
    "/root",
    "/home",
    "/boot",
    "/usr/local",
    "/srv",
    "/mnt",
    "/media",
    "/opt",
    "/tmp",  # noqa: S108 - a folder of the guest, not of this host
    "/var",
)
"""Streamed in this order, so that what may be too much comes last; every other folder in / follows but these:"""
_DISTRIBUTION = "bin dev gnu lib lib32 lib64 libx32 lost+found nix ostree proc run sbin snap sys sysroot usr"
NOT_STREAMED = frozenset(
    (*_DISTRIBUTION.split(), "Windows", "Program Files", "Program Files (x86)", "$Recycle.Bin", "System Volume Information")
)
SKIPPED = (
    "/etc/selinux/*/policy",
    "/etc/udev/hwdb.bin",
    "/var/cache",
    "/var/lib/apt/lists",
    "/var/lib/command-not-found",
    "/var/lib/dnf",
    "/var/lib/dpkg/info",
    "/var/lib/mlocate",
    "/var/lib/plocate",
    "/var/lib/rpm",
    "/var/lib/swcatalog",
    "/var/lib/yum",
)
"""Big, and the distribution's own."""
SKIPPED_WITH_NOTE = (
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/flatpak",
    "/var/lib/libvirt/images",
    "/var/lib/lxc",
    "/var/lib/snapd",
)
"""Big, and systems of their own."""

DPKG_STATUS = "/var/lib/dpkg/status"
DPKG_STATUS_FOLDER = "/var/lib/dpkg/status.d/"
APK_INSTALLED = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A stable code and what to do about it."""

    code: str
    remedy: str
    severity: Severity = Severity.FINDING


NO_SYSTEM = Rule(code="os.none", remedy="Publish an image whose first disk holds an operating system.")
AUTHORIZED_KEYS = Rule(code="secret.authorized_keys", remedy="Remove the file; a launch adds its user's own keys.")
HOST_KEY = Rule(
    code="secret.host_key", remedy="Remove the SSH host keys, or capture with generalising; a first boot makes new ones."
)
PRIVATE_KEY = Rule(code="secret.private_key", remedy="Remove the key, and replace it wherever it is trusted.")
CREDENTIALS = Rule(code="secret.cloud_credentials", remedy="Remove the credentials, and revoke them where they were issued.")
HISTORY = Rule(code="secret.shell_history", remedy="Remove the history file, or capture with generalising.")
PASSWORD = Rule(code="secret.password", remedy="Lock it with `passwd -l` (a group's with `gpasswd -r`); let logins be by key.")
NO_PASSWORD = Rule(code="secret.no_password", remedy="Lock the account's password with `passwd -l`.")
DEFAULT_PASSWORD = Rule(
    code="secret.default_password", remedy="Lock the account's password with `passwd -l`; everybody knows it."
)
PASSWORD_LOGIN = Rule(
    code="ssh.password_login",
    remedy="Set `PasswordAuthentication no` and `PermitRootLogin prohibit-password`.",
    severity=Severity.WARNING,
)
USER_DATA = Rule(
    code="secret.cloud_init", remedy="Run `cloud-init clean`, or capture with generalising.", severity=Severity.WARNING
)
MACHINE_ID = Rule(code="identity.machine_id", remedy="Empty the file, or capture with generalising.", severity=Severity.WARNING)
NO_PACKAGES = Rule(
    code="sbom.no_packages",
    remedy="Keep the package manager's database in the image, so that what it is made of can be told.",
    severity=Severity.WARNING,
)
INCOMPLETE = Rule(
    code="scan.incomplete",
    remedy="Read the scan's notes; remove what is not needed from the image, or repair its file systems.",
    severity=Severity.WARNING,
)
