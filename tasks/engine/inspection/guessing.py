"""Whether a password hash is of a password that everybody tries first, by the C library's own crypt(3).

The hash comes from a hostile disk and says itself how much work it is. So only methods whose work is known are tried, and what
trying costs in all is limited by estimates, not by a clock: the same disk gives the same findings on any host.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tasks.engine.inspection.c_secrets import GUESS_MS, WELL_KNOWN

_LIBRARY = "libcrypt.so.1"
_MAX_HASH = 256
_YESCRYPT_MS = {"j75": 2.0, "j85": 4.0, "j7T": 8.0, "j8T": 16.0, "j9T": 32.0, "jAT": 75.0}
_SHA_ROUNDS = 5_000
_SHA_MS = 4.0
_MAX_SHA_ROUNDS = 100_000
_BCRYPT_MS = 1.2
_BCRYPT_COSTS = range(4, 11)

_DES = re.compile(r"[./0-9A-Za-z]{13}")
_MD5 = re.compile(r"\$1\$[^$:]{0,8}\$[./0-9A-Za-z]{22}")
_SHA = re.compile(r"\$[56]\$(?:rounds=([0-9]{1,9})\$)?[^$:]{0,16}\$[./0-9A-Za-z]{43,86}")
_BCRYPT = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./0-9A-Za-z]{53}")
_YESCRYPT = re.compile(r"\$g?y\$([./0-9A-Za-z]{3})\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43}")


def cost_ms(hashed: str) -> float | None:
    """About how long one try takes; None for what is not tried at all."""
    if len(hashed) > _MAX_HASH:
        return None
    if _DES.fullmatch(hashed):
        return 0.05
    if _MD5.fullmatch(hashed):
        return 0.3
    if found := _SHA.fullmatch(hashed):
        rounds = int(found[1] or _SHA_ROUNDS)
        return rounds / _SHA_ROUNDS * _SHA_MS if rounds <= _MAX_SHA_ROUNDS else None
    if found := _BCRYPT.fullmatch(hashed):
        return _BCRYPT_MS * 2.0 ** (int(found[1]) - 4) if int(found[1]) in _BCRYPT_COSTS else None
    found = _YESCRYPT.fullmatch(hashed)
    return _YESCRYPT_MS.get(found[1]) if found else None


@dataclass
class Guesser:
    """Tries well-known passwords until `budget_ms` is used up; `skipped` counts hashes that were not tried to the end."""

    budget_ms: float = GUESS_MS
    skipped: int = 0
    _crypt: Any = field(default_factory=lambda: _load(), repr=False)

    def is_well_known(self, hashed: str, *, user: str) -> bool:
        """Whether it is the hash of no password at all, of the user's own name or of a well-known one."""
        cost = cost_ms(hashed)
        for word in _words(user):
            if cost is None or self._crypt is None or cost > self.budget_ms:
                self.skipped += 1
                return False
            self.budget_ms -= cost
            if self._crypt(_bytes(word), _bytes(hashed)) == _bytes(hashed):
                return True
        return False


def _words(user: str) -> Iterable[str]:
    own = (user, f"{user}123", f"{user}1") if user else ()
    return dict.fromkeys(("", *own, *WELL_KNOWN))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _load() -> Any:
    """crypt(3), or None where this host has none."""
    try:
        crypt = ctypes.CDLL(_LIBRARY).crypt
    except (OSError, AttributeError):
        return None
    crypt.restype, crypt.argtypes = ctypes.c_char_p, (ctypes.c_char_p, ctypes.c_char_p)
    return crypt
