"""What secrets on a disk are recognised by: paths, patterns, passwords that everybody knows.

`secrets` and `passwords` apply them; their codes and remedies are in `c_scan`. Every pattern is linear in its input, or nearly
so: a hostile disk chooses what it is run over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.engine.inspection.c_generalize import HISTORIES


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{each})" for each in patterns), re.DOTALL)


def _within(pattern: str) -> str:
    """A shell pattern as a regular expression; its * stays within one name."""
    return re.escape(pattern).replace(r"\*", "[^/]*")


AUTHORIZED_KEYS_PATH = _any_of(
    r"/(?:administrators_)?authorized_keys2?\Z", r"\A/etc/ssh/authorized_keys[^/]*/", r"\A/etc/dropbear/authorized_keys"
)
HOST_KEY_PATH = _any_of(r"/ssh_host_[^/]*_key\Z", r"/dropbear_[^/]*_host_key\Z", r"\A/etc/dropbear/[^/]*_key\Z")
HISTORY_PATH = _any_of(*(rf"/{_within(each)}(?:/|\Z)" for each in HISTORIES))
GPG_KEY_PATH = _any_of(r"/private-keys-v1\.d/[^/]+\.key\Z")
SSHD_CONFIG_PATH = _any_of(r"\A/etc/ssh/sshd_config\Z", r"\A/etc/ssh/sshd_config\.d/[^/]+\.conf\Z")
USER_DATA_PATH = _any_of(r"\A/var/lib/cloud/instances/[^/]+/user-data\.txt\Z")
MACHINE_ID_PATH = _any_of(r"\A/etc/machine-id\Z", r"\A/var/lib/dbus/machine-id\Z")

PUBLIC_KEY = re.compile(rb"(?:\A|[\s,\"])(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]{1,60}[ \t]{1,9}AAAA[A-Za-z0-9+/]{16}")
PASSWORD_LOGIN_LINE = re.compile(
    rb"^[ \t]{0,40}(PasswordAuthentication|PermitRootLogin)[ \t=]{1,9}\"?yes\b", re.IGNORECASE | re.MULTILINE
)

KEY_END = re.compile(rb"PRIVATE KEY(?: BLOCK)?-----")
KEY_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})\Z")
KEY_BODY = re.compile(rb"[A-Za-z0-9+/]{60}")
KEY_BODY_BYTES = 4096
KEY_HEAD_BYTES = 60
MIN_KEY_SYMBOLS = 12
"""Different characters at the beginning of a key; a placeholder has fewer."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Credentials as text: `pattern`'s first group, or all it matches, is the secret. `path` limits where it counts; `needles`,
    in small letters, save running the pattern over most files."""

    name: str
    needles: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    path: re.Pattern[str] | None = None


OTHER_KEYS = (
    Token(name="PuTTY", needles=(b"putty-user-key-file-",), pattern=re.compile(rb"(?m)^Private-Lines: [1-9]")),
    Token(
        name="SSH 1", needles=(b"ssh private key file format 1",), pattern=re.compile(rb"\ASSH PRIVATE KEY FILE FORMAT 1\.1")
    ),
    Token(
        name="WireGuard",
        needles=(b"privatekey",),
        pattern=re.compile(rb"(?m)^[ \t]{0,9}PrivateKey[ \t]{0,9}=[ \t]{0,9}[A-Za-z0-9+/]{43}="),
    ),
    Token(name="age", needles=(b"age-secret-key-1",), pattern=re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{58}")),
)

_VALUE = rb"[\"']?[ \t]{0,9}(?:=>|[:=])[ \t]{0,9}[\"']?"
"""What stands between a setting's name and its value in shell, INI, YAML and JSON."""

SERVICE_ACCOUNT = "a Google service account's key"
TOKENS = (
    Token(
        name="an AWS access key id",
        needles=(b"akia", b"asia"),
        pattern=re.compile(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ),
    Token(
        name="an AWS secret access key",
        needles=(b"secret_access_key", b"secretaccesskey"),
        pattern=re.compile(rb"(?i)secret_?access_?key" + _VALUE + rb"([a-z0-9/+]{40})(?![a-z0-9/+=])"),
    ),
    Token(
        name=SERVICE_ACCOUNT,
        needles=(b'"service_account"',),
        pattern=re.compile(
            rb"\"private_key\"\s{0,9}:\s{0,9}\"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?:\\n)?([A-Za-z0-9+/\\]{60})"
        ),
    ),
    Token(
        name="an Azure storage key",
        needles=(b"accountkey",),
        pattern=re.compile(rb"(?i)AccountKey" + _VALUE + rb"([a-z0-9+/]{86}==)"),
    ),
    Token(
        name="an Azure client secret",
        needles=(b"q~", b"_client_secret"),
        pattern=re.compile(
            rb"(?<![\w~.-])[\w~.]{3}[0-9]Q~[\w~.-]{31,34}(?![\w~.-])"
            rb"|(?i:azure|arm)_(?i:client_secret)" + _VALUE + rb"([\w~.+/=-]{16})"
        ),
    ),
    Token(
        name="a Docker registry's login",
        needles=(b'"auth"', b'"identitytoken"', b'"registrytoken"', b'"password"'),
        pattern=re.compile(rb"\"(?:auth|identitytoken|registrytoken|password)\"\s{0,9}:\s{0,9}\"([^\"\s]{4})"),
        path=_any_of(r"/\.docker/config\.json\Z", r"/\.dockercfg\Z", r"/containers/auth\.json\Z"),
    ),
    Token(
        name="a login in a netrc file",
        needles=(b"password",),
        pattern=re.compile(rb"(?:\A|\s)password\s{1,20}(\S)"),
        path=_any_of(r"/[._]netrc\Z", r"\A/etc/apt/auth\.conf(?:\.d/[^/]+)?\Z"),
    ),
    Token(
        name="a login of git",
        needles=(b"://",),
        pattern=re.compile(rb"://[^\s/:@]{0,200}:([^\s/@]{1,500})@"),
        path=_any_of(r"/\.git-credentials\Z", r"/git/credentials\Z"),
    ),
    Token(
        name="a PostgreSQL password",
        needles=(b":",),
        pattern=re.compile(rb"(?m)^(?!#)(?:[^:\r\n]{1,200}:){4}([^\r\n]{1,200})"),
        path=_any_of(r"/\.pgpass\Z", r"/pgpass\.conf\Z"),
    ),
    Token(
        name="a Kubernetes client key",
        needles=(b"client-key-data",),
        pattern=re.compile(rb"client-key-data[\"']?[ \t]{0,9}:[ \t]{0,9}[\"']?([A-Za-z0-9+/=]{40})"),
    ),
    Token(
        name="a Kubernetes token",
        needles=(b"token",),
        pattern=re.compile(rb"(?m)^[ \t-]{0,40}(?:id-|refresh-)?token[ \t]{0,9}:[ \t]{0,9}[\"']?([\w.~+/=-]{12})"),
        path=_any_of(r"/\.kube/config\Z", r"\A/etc/kubernetes/[^/]+\.conf\Z", r"/kubeconfig\Z"),
    ),
    Token(
        name="a GitHub token",
        needles=(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        pattern=re.compile(rb"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})"),
    ),
    Token(
        name="a GitLab token",
        needles=(b"glpat-",),
        pattern=re.compile(rb"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20}"),
    ),
    Token(
        name="a Slack token",
        needles=(b"xox",),
        pattern=re.compile(rb"(?<![A-Za-z0-9])xox[abeoprs]-[0-9][A-Za-z0-9-]{15}"),
    ),
    Token(
        name="an npm token",
        needles=(b"npm_",),
        pattern=re.compile(rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
    ),
    Token(
        name="a login of npm",
        needles=(b"_authtoken", b"_auth", b"_password"),
        pattern=re.compile(rb"_(?:authToken|auth|password)[ \t]{0,9}=[ \t]{0,9}\"?([^\s\"$]{8})"),
        path=_any_of(r"/\.?npmrc\Z"),
    ),
    Token(
        name="a PyPI token",
        needles=(b"pypi-age",),
        pattern=re.compile(rb"pypi-AgE[A-Za-z0-9_-]{60}"),
    ),
    Token(
        name="a login of PyPI",
        needles=(b"password",),
        pattern=re.compile(rb"(?m)^[ \t]{0,40}password[ \t]{0,9}[=:][ \t]{0,9}(\S)"),
        path=_any_of(r"/\.pypirc\Z"),
    ),
)
MIN_SECRET_SYMBOLS = 8
"""Different characters in a token that counts wherever it stands; a placeholder has fewer."""
EXAMPLES = (
    b"EXAMPLE",  # https://docs.aws.amazon.com/IAM/latest/UserGuide/security-creds.html and its like
    b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",  # the Azure storage emulator's, the same everywhere
)

PASSWD, SHADOW = "/etc/passwd", "/etc/shadow"
PASSWORD_FILES = (PASSWD, SHADOW, "/etc/passwd-", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-")
NO_LOGIN = frozenset(("nologin", "false", "true", "sync", "halt", "shutdown"))
"""Shells that let nobody in, by their last name."""
MAX_ACCOUNTS = 2_000
GUESS_MS = 20_000.0
"""What trying well-known passwords may cost in all, by the estimates of `guessing`."""

_WELL_KNOWN = """
root toor password Password Password1 passw0rd P@ssw0rd admin administrator ubuntu debian vagrant raspberry pi changeme
change_me changeit 123456 1234 12345 12345678 123456789 1234567890 qwerty letmein welcome test guest user default secret
linux centos redhat fedora alpine arch alarm kali cloud cirros cubswin:) gocubsgo osboxes.org live oracle ansible packer
docker ec2-user opensuse rocky almalinux calvin nimda
"""
WELL_KNOWN = tuple(_WELL_KNOWN.split())
"""What is tried as a password, after none at all and the user's own name."""
