"""Password files: what is a password, what is none, and which ones everybody knows. Hashes are made here."""

from __future__ import annotations

import subprocess
import time

import pytest

from tasks.engine.inspection.guessing import Guesser, cost_ms
from tasks.engine.inspection.passwords import password_findings, surplus

PASSWD = b"root:x:0:0:root:/root:/bin/bash\nims:x:1:1::/home/ims:\ndaemon:x:2:2::/:/usr/sbin/nologin\n"
YESCRYPT_OF_TOOR = "$y$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$VXsdGkPAel7XGgB.Po8h5rjusx72aGGZ0YO5.inaAd9"  # openssl cannot make one


def openssl(word: str, *options: str) -> str:
    command = ["openssl", "passwd", *options, word]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def toor() -> str:
    return openssl("toor", "-6")


@pytest.fixture(scope="module")
def strange() -> str:
    return openssl("q8 Zp-not-in-any-list", "-6")


def found(files: dict[str, str | bytes], guesser: Guesser | None = None) -> list[tuple[str, str, str]]:
    given = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    guesser = guesser or Guesser()
    findings = password_findings(given, lambda hashed, user: guesser.is_well_known(hashed, user=user))
    return [(each.code, each.path, each.detail) for each in findings]


def test_password_that_is_set_names_the_account_alone(strange: str):
    assert found({"/etc/shadow": f"ims:{strange}:19600:::::\r\n"}) == [("secret.password", "/etc/shadow", "ims has a password")]


def test_well_known_password_has_a_code_of_its_own(toor: str):
    (finding,) = found({"/etc/shadow": f"root:{toor}:19600:::::\n"})
    assert finding[:2] == ("secret.default_password", "/etc/shadow")
    assert "root" in finding[2]
    assert toor not in finding[2]


@pytest.mark.parametrize("options", [("-1",), ("-5",), ("-6",), ("-6", "-salt", "a")])
@pytest.mark.parametrize("word", ["ims", "ims123", "123456"])
def test_users_own_name_and_simple_passwords_are_tried(options: tuple[str, ...], word: str):
    assert found({"/etc/shadow": f"ims:{openssl(word, *options)}:1:\n"})[0][0] == "secret.default_password"


def test_hash_of_debians_default_method_is_tried():
    assert found({"/etc/shadow": f"a:{YESCRYPT_OF_TOOR}:1:\n"})[0][0] == "secret.default_password"


@pytest.mark.parametrize("secret", ["!", "!!", "*", "x", "!*", "*LK*", "NP", "!$6$salt$hash", "\ufffd"])
def test_locked_account_is_fine(secret: str):
    assert found({"/etc/passwd": PASSWD, "/etc/shadow": f"root:{secret}:1::::::\n", "/etc/gshadow": "wheel:!::root\n"}) == []


def test_account_without_a_password_counts_where_it_can_log_in():
    shadow = "root::1:\nims::1:\ndaemon::1:\nnobody-of-that-name::1:\n"
    assert [each[0::2] for each in found({"/etc/passwd": PASSWD, "/etc/shadow": shadow})] == [
        ("secret.no_password", "root logs in without a password"),
        ("secret.no_password", "ims logs in without a password"),
    ]


def test_fields_of_passwd_itself_count(strange: str):
    rows = f"a::0:0::/:/bin/sh\nb:{strange}:0:0::/:/bin/false\nc:*:0:0::/:/bin/sh\nd::0:0::/:/usr/bin/false\n"
    assert {each[:2] for each in found({"/etc/passwd": rows})} == {
        ("secret.no_password", "/etc/passwd"),
        ("secret.password", "/etc/passwd"),
    }


def test_backups_and_groups_count_by_their_own_path(strange: str, toor: str):
    files = {"/etc/shadow-": f"a:{strange}:1:\n", "/etc/gshadow": f"wheel:{toor}::root\nusers:::\n"}
    assert found(files) == [
        ("secret.password", "/etc/shadow-", "a has a password"),
        ("secret.password", "/etc/gshadow", "the group wheel has a password"),
    ]


def test_hostile_rows_do_no_harm(strange: str):
    rows = (
        b"\x00\xff\n::::\n:\nroot\n+::::::\n#a:b\n"
        + b"n" * 9000
        + b":"
        + strange.encode()
        + b":\n"
        + b"\x1b[2J\xff:"
        + strange.encode()
    )
    details = [each[2] for each in found({"/etc/shadow": rows, "/etc/passwd": b"a:" * 100_000})]
    assert len(details) == 2
    assert all(each.isprintable() and len(each) < 100 for each in details)


def test_more_rows_than_are_looked_at_are_told():
    assert surplus({"/etc/shadow": b"a:!:\n" * 3_000, "/etc/passwd": PASSWD}) == ["/etc/shadow"]


@pytest.mark.parametrize(
    "hashed",
    [
        "$6$rounds=999999999$salt$" + "a" * 86,
        "$2b$31$" + "a" * 53,
        "$y$jFT$salt$" + "a" * 43,
        "$y$zzz$salt$" + "a" * 43,
        "$7$GU..../....salt$" + "a" * 43,
        "$6$" + "a" * 5_000,
    ],
)
def test_work_that_a_hash_asks_for_is_not_done(hashed: str):
    started, guesser = time.process_time(), Guesser()
    assert found({"/etc/shadow": f"root:{hashed}:1:\n"}, guesser)[0][0] == "secret.password"
    assert time.process_time() - started < 0.5
    assert (cost_ms(hashed), guesser.skipped) == (None, 1)


def test_guessing_ends_with_its_budget(toor: str):
    guesser = Guesser(budget_ms=5)
    assert found({"/etc/shadow": f"root:{toor}:1:\n"}, guesser)[0][0] == "secret.password"
    assert guesser.skipped == 1
