"""Which secrets and traces one file of a guest holds: pure functions over its path, mode and first bytes.

Path and bytes come from a hostile disk. Nothing that a finding says is taken from a file's content but words that the patterns
of `c_secrets` allow; no secret is ever repeated. Password files are `passwords`' matter.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator

from tasks.engine.inspection import c_scan, c_secrets
from tasks.engine.inspection.c_scan import Rule
from tasks.engine.inspection.c_secrets import Token
from tasks.engine.inspection.content import MAX_FINDINGS, MAX_PATH, Finding, Severity
from tasks.engine.inspection.facts import clean

_MATCHED_PATH = 4096


def findings_in(path: str, mode: int, data: bytes) -> list[Finding]:
    """What a file's name and first bytes give away; nothing where `mode` is not that of a regular file."""
    if not stat.S_ISREG(mode) or not data:
        return []
    matched = path[-_MATCHED_PATH:]
    return [finding(rule, path, detail) for rule, detail in _found(matched, data)]


def follows(path: str) -> bool:
    """Whether a symbolic link of that name has the meaning of what it leads to."""
    return path in c_secrets.PASSWORD_FILES or bool(c_secrets.AUTHORIZED_KEYS_PATH.search(path[-_MATCHED_PATH:]))


def matters_by_name(path: str) -> bool:
    """Whether a file's name, and not only its content, makes it a finding."""
    matched = path[-_MATCHED_PATH:]
    paths = (*(path for path, _, _ in _BY_PATH), *(token.path for token in c_secrets.TOKENS if token.path))
    return path in c_secrets.PASSWORD_FILES or any(each.search(matched) for each in paths)


def finding(rule: Rule, path: str, detail: str) -> Finding:
    """What the rule says of the path, as clean text."""
    return Finding(
        code=rule.code,
        path=clean(path, limit=MAX_PATH),
        detail=clean(detail, limit=MAX_PATH),
        remedy=rule.remedy,
        severity=rule.severity,
    )


def settled(findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], int]:
    """Each finding once, what rejects first, and how many the list has no room for."""
    ordered = sorted(set(findings), key=lambda each: (each.severity != Severity.FINDING, each.code, each.path, each.detail))
    return tuple(ordered[:MAX_FINDINGS]), max(0, len(ordered) - MAX_FINDINGS)


def _found(path: str, data: bytes) -> Iterator[tuple[Rule, str]]:
    for pattern, rule, detail_of in _BY_PATH:
        if pattern.search(path) and (detail := detail_of(data)):
            yield rule, detail
    small = data.lower()
    credentials = [token.name for token in c_secrets.TOKENS if _has(token, path, data, small)]
    if credentials:
        yield c_scan.CREDENTIALS, f"it holds {', '.join(credentials)}"
    named = c_secrets.HOST_KEY_PATH.search(path) or c_secrets.GPG_KEY_PATH.search(path)
    if not named and c_secrets.SERVICE_ACCOUNT not in credentials and (kind := _private_key(data, small)):
        yield c_scan.PRIVATE_KEY, f"it holds a private key ({kind})"


def _has(token: Token, path: str, data: bytes, small: bytes) -> bool:
    if token.path and not token.path.search(path):
        return False
    if not any(needle in small for needle in token.needles):
        return False
    return any(token.path or _is_real(found[found.lastindex or 0]) for found in token.pattern.finditer(data))


def _is_real(secret: bytes) -> bool:
    """Whether a token is neither a placeholder nor out of somebody's documentation."""
    return len(set(secret)) >= c_secrets.MIN_SECRET_SYMBOLS and not any(each in secret for each in c_secrets.EXAMPLES)


def _private_key(data: bytes, small: bytes) -> str:
    """What kind of private key is in the bytes, or nothing."""
    for end in c_secrets.KEY_END.finditer(data):
        begin = c_secrets.KEY_BEGIN.search(data, max(0, end.start() - c_secrets.KEY_HEAD_BYTES), end.start())
        if begin and _is_key_body(_block(data, end.end())):
            return begin[1].decode().strip() or "PKCS 8"
    others = (token.name for token in c_secrets.OTHER_KEYS if _has(token, "", data, small))
    return next(others, "")


def _block(data: bytes, start: int) -> bytes:
    """What stands between two lines of dashes."""
    end = data.find(b"-----", start, start + c_secrets.KEY_BODY_BYTES)
    return data[start : end if end >= 0 else start + c_secrets.KEY_BODY_BYTES]


def _is_key_body(block: bytes) -> bool:
    """Whether base64 follows, be it in a file of its own, indented, or in a string with its line ends escaped."""
    body = block.replace(rb"\r", b"").replace(rb"\n", b"\n")
    lines = (line for line in body.split(b"\n") if b":" not in line)
    start = c_secrets.KEY_BODY.match(b"".join(lines).translate(None, b" \t\r\"'\\,>|"))
    return start is not None and len(set(start[0])) >= c_secrets.MIN_KEY_SYMBOLS


def _authorized(data: bytes) -> str:
    lines = (line.strip() for line in data.split(b"\n") if b"AAAA" in line)
    keys = sum(1 for line in lines if not line.startswith(b"#") and c_secrets.PUBLIC_KEY.search(line))
    return f"{keys} public key{'s' if keys > 1 else ''} may log in" if keys else ""


def _password_login(data: bytes) -> str:
    names = {found[1].decode().lower() for found in c_secrets.PASSWORD_LOGIN_LINE.finditer(data)}
    said = [f"{name} yes" for name in ("PasswordAuthentication", "PermitRootLogin") if name.lower() in names]
    return f"it says {' and '.join(said)}" if said else ""


def _machine_id(data: bytes) -> str:
    return "" if data.strip() in (b"", b"uninitialized") else "every guest made from the image would be the same machine"


def _saying(detail: str) -> Callable[[bytes], str]:
    """For a file whose being there, not empty, is enough."""
    return lambda data: detail if data.strip() else ""


_BY_PATH: tuple[tuple[re.Pattern[str], Rule, Callable[[bytes], str]], ...] = (
    (c_secrets.AUTHORIZED_KEYS_PATH, c_scan.AUTHORIZED_KEYS, _authorized),
    (c_secrets.HOST_KEY_PATH, c_scan.HOST_KEY, _saying("every guest made from the image would have this host key")),
    (c_secrets.GPG_KEY_PATH, c_scan.PRIVATE_KEY, _saying("it holds a private key (GnuPG)")),
    (c_secrets.HISTORY_PATH, c_scan.HISTORY, _saying("what somebody typed is in it")),
    (c_secrets.SSHD_CONFIG_PATH, c_scan.PASSWORD_LOGIN, _password_login),
    (c_secrets.USER_DATA_PATH, c_scan.USER_DATA, _saying("the user data of an earlier launch is left")),
    (c_secrets.MACHINE_ID_PATH, c_scan.MACHINE_ID, _machine_id),
)
