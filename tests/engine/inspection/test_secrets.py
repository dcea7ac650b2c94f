"""The rules of a scan over single files: what counts, what does not, and what a hostile disk sends instead."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from base64 import b64encode

import pytest

from tasks.engine.inspection.c_scan import FILE_BYTES
from tasks.engine.inspection.content import MAX_FINDINGS, MAX_PATH
from tasks.engine.inspection.secrets import findings_in, follows, matters_by_name, settled

REGULAR = stat.S_IFREG | 0o644


def noise(length: int, seed: str = "x") -> str:
    """Text of base64's letters and digits that looks random and never changes."""
    blocks = (hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(length // 20 + 1))
    return b64encode(b"".join(blocks)).decode().replace("+", "a").replace("/", "b").replace("=", "")[:length]


def key(label: str = "RSA ", body: str = noise(300), ends: str = "\n", suffix: str = "") -> bytes:
    """A PEM block; put together here so that this file itself holds none."""
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    dashes = "-" * 5
    head, tail = (f"{dashes}{word} {label}PRIVATE KEY{suffix}{dashes}" for word in ("BEGIN", "END"))
    return ends.join((head, *lines, tail, "")).encode()


PUBLIC = f"ssh-ed25519 AAAA{noise(64)} somebody@somewhere\n".encode()
AWS_ID = "AK" + "IA" + noise(16, "aws").upper()
AWS_KEY = noise(40, "secret")
SAID_SECRETS = (AWS_ID, AWS_KEY, noise(300)[:64])


def codes(path: str, data: bytes | str, mode: int = REGULAR) -> list[str]:
    return [each.code for each in findings_in(path, mode, data.encode() if isinstance(data, str) else data)]


@pytest.mark.parametrize(
    "path",
    [
        "/root/.ssh/authorized_keys",
        "/home/a/.ssh/authorized_keys2",
        "/var/lib/app/.ssh/authorized_keys",
        "/etc/ssh/authorized_keys/root",
        "/etc/ssh/authorized_keys.d/root",
        "/etc/dropbear/authorized_keys",
        "/a/.ssh/authorized_keys",
    ],
)
def test_authorized_key_is_found_wherever_sshd_may_look(path: str):
    assert codes(path, PUBLIC) == ["secret.authorized_keys"]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (PUBLIC.replace(b"\n", b"\r\n") * 2, "2 public keys"),
        (b'from="10.0.0.1",command="true" ' + PUBLIC, "1 public key "),
        (b"\xff\xfe\x00junk\n" + PUBLIC, "1 public key "),
        (b"# old: " + PUBLIC + b"\t" + PUBLIC, "1 public key "),
        (b"sk-ssh-ed25519@openssh.com AAAA" + b"b" * 40, "1 public key "),
    ],
)
def test_authorized_keys_are_counted_by_line(data: bytes, count: str):
    (found,) = findings_in("/root/.ssh/authorized_keys", REGULAR, data)
    assert found.detail.startswith(count)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# " + PUBLIC, b"#" * 100_000, b"ssh-rsa and nothing more\n"])
def test_authorized_keys_without_a_key_is_fine(data: bytes):
    assert codes("/root/.ssh/authorized_keys", data) == []


def test_public_key_elsewhere_is_fine():
    assert codes("/root/.ssh/id_ed25519.pub", PUBLIC) == codes("/root/.ssh/known_hosts", b"host " + PUBLIC) == []


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/etc/ssh/ssh_host_rsa_key", key("OPENSSH ")),
        ("/etc/ssh/ssh_host_ed25519_key", b"\x00\x00\x00\x0bssh-ed25519 binary"),
        ("/etc/dropbear/dropbear_rsa_host_key", b"\x00\x07"),
        ("/usr/local/etc/ssh/ssh_host_ecdsa_key", key("EC ")),
    ],
)
def test_host_key_is_no_other_private_key(path: str, data: bytes):
    assert codes(path, data) == ["secret.host_key"]


def test_public_half_of_a_host_key_is_fine():
    assert codes("/etc/ssh/ssh_host_rsa_key.pub", PUBLIC) == []


@pytest.mark.parametrize("label", ["", "RSA ", "DSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n    ", "\\n", '\\n"\n  "'])
def test_private_key_is_found_however_its_lines_end(label: str, ends: str):
    assert codes("/opt/app/settings", b"junk\xff\x00" + key(label, ends=ends)) == ["secret.private_key"]


@pytest.mark.parametrize(
    "data",
    [
        key("PGP ", suffix=" BLOCK"),
        key(ends="\n").replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1),
        key("", body=noise(64)),
        b"PuTTY-User-Key-File-3: ssh-rsa\r\nEncryption: none\r\nPrivate-Lines: 14\r\n",
        b"[Interface]\nPrivateKey = " + noise(43).encode() + b"=\n",
        b"AGE-SECRET-KEY-1" + noise(58).upper().encode(),
    ],
)
def test_private_key_of_any_kind_is_found(data: bytes):
    assert codes("/home/a/x", data) == ["secret.private_key"]


@pytest.mark.parametrize(
    "data",
    [
        b"grep -r 'BEGIN RSA PRIVATE KEY' /",
        key(body=""),
        key(body="MIIEpAIBAAKCAQEA..."),
        key(body="your-key-goes-here-" * 5),
        key(body="x" * 200),
        key("").replace(b"PRIVATE", b"PUBLIC"),
        key()[: len(key()) // 8],
        b"-----BEGIN CERTIFICATE-----\n" + noise(300).encode(),
    ],
)
def test_words_about_keys_are_no_key(data: bytes):
    assert codes("/opt/app/readme", data) == []


def test_key_of_gnupg_is_found_by_its_place():
    assert codes("/root/.gnupg/private-keys-v1.d/A0.key", b"(21:protected-private-key") == ["secret.private_key"]


SERVICE_ACCOUNT = json.dumps({"type": "service_account", "private_key": key("").decode(), "client_email": "a@b"})


@pytest.mark.parametrize(
    ("path", "data", "named"),
    [
        ("/opt/a.env", f"KEY={AWS_ID}\r\n", "an AWS access key id"),
        ("/root/.aws/credentials", f"aws_secret_access_key = {AWS_KEY}\n", "an AWS secret access key"),
        ("/srv/a.json", json.dumps({"SecretAccessKey": AWS_KEY}), "an AWS secret access key"),
        ("/srv/a.sh", f"export AWS_SECRET_ACCESS_KEY='{AWS_KEY}'", "an AWS secret access key"),
        ("/opt/gcp.json", SERVICE_ACCOUNT, "a Google service account's key"),
        ("/etc/app", f"AccountName=a;AccountKey={noise(86)}==;", "an Azure storage key"),
        ("/etc/app", f'"{noise(3)}8Q~{noise(32)}"', "an Azure client secret"),
        ("/etc/app", f"ARM_CLIENT_SECRET={noise(36)}", "an Azure client secret"),
        ("/root/.docker/config.json", '{"auths": {"r.io": {"auth": "dTpw"}}}', "a Docker registry's login"),
        ("/root/.config/containers/auth.json", '{"auths":{"r":{"identitytoken":"abcd"}}}', "a Docker registry's login"),
        ("/root/.netrc", "machine a login b\n  password c\n", "a login in a netrc file"),
        ("/etc/apt/auth.conf.d/x.conf", "machine a login b password c", "a login in a netrc file"),
        ("/root/.git-credentials", "https://a:b@host\n", "a login of git"),
        ("/root/.pgpass", "#c\nhost:5432:*:a:b\r\n", "a PostgreSQL password"),
        ("/root/.kube/config", f"users:\n- user:\n    token: {noise(20)}\n", "a Kubernetes token"),
        ("/opt/k3s.yaml", f"client-key-data: {noise(200)}", "a Kubernetes client key"),
        ("/opt/x", f"ghp_{noise(36)}", "a GitHub token"),
        ("/opt/x", f"github_pat_{noise(22)}_{noise(59)}", "a GitHub token"),
        ("/opt/x", f"gl\xe4 glpat-{noise(20)}", "a GitLab token"),
        ("/opt/x", f"xoxb-123456789012-123456789012-{noise(24)}", "a Slack token"),
        ("/root/.npmrc", f"//npm.example.org/:_authToken=npm_{noise(36)}", "an npm token, a login of npm"),
        ("/opt/x", f"pypi-AgEIcHlwaS5vcmc{noise(80)}", "a PyPI token"),
        ("/root/.pypirc", "[pypi]\npassword = x\n", "a login of PyPI"),
    ],
)
def test_credentials_are_named_and_not_repeated(path: str, data: str, named: str):
    (found,) = findings_in(path, REGULAR, data.encode())
    assert (found.code, found.detail, found.path) == ("secret.cloud_credentials", f"it holds {named}", path)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/opt/x", "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI"),
        ("/opt/x", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("/opt/x", f"A{AWS_ID} {AWS_ID}a"),
        ("/opt/x", "aws_secret_access_key = <your key>"),
        ("/opt/x", "Asia/Tokyo ghp_" + "x" * 36 + " xoxb-your-token npm_" + "0" * 36),
        ("/opt/x", "AccountKey=" + "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="),
        ("/opt/x", '{"type": "service_account", "private_key": "..."}'),
        ("/root/.docker/config.json", '{"auths": {"r.io": {}}, "credsStore": "pass"}'),
        ("/opt/config.json", '{"auth": "dTpw"}'),
        ("/root/.netrc", "machine a login b\n"),
        ("/root/.git-credentials", "https://host/a:b\n"),
        ("/root/.pgpass", "# host:5432:*:a:b\nhost:5432:*:a:\n"),
        ("/root/.kube/config", "clusters: []\ntokenFile: /x\n"),
        ("/root/.npmrc", "//npm.example.org/:_authToken=${NPM_TOKEN}\n"),
    ],
)
def test_examples_and_placeholders_are_no_credentials(path: str, data: str):
    assert codes(path, data) == []


def test_one_finding_a_code_and_path():
    data = f"{AWS_ID}\n{AWS_ID}\naws_secret_access_key={AWS_KEY}\nghp_{noise(36)}\n".encode() + key() + key("EC ")
    assert codes("/opt/all", data) == ["secret.cloud_credentials", "secret.private_key"]


@pytest.mark.parametrize(
    "path",
    [
        "/root/.bash_history",
        "/home/a/.zsh_history",
        "/home/a/.zsh_sessions/1.history",
        "/home/a/.local/share/fish/fish_history",
        "/var/lib/postgresql/.psql_history",
        "/a/.python_history",
        "/home/a/.bash_history-0123.tmp",
    ],
)
def test_history_is_found(path: str):
    assert codes(path, "ls\n") == ["secret.shell_history"]
    assert codes(path, "") == codes(path, "ls\n", stat.S_IFLNK | 0o777) == codes(path, "x", stat.S_IFIFO) == []


@pytest.mark.parametrize("path", ["/root/bash_history", "/root/.bash_history.d", "/root/.bash_history.gz", "/root/x.history"])
def test_other_names_are_no_history(path: str):
    assert codes(path, "ls\n") == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("PasswordAuthentication yes\r\n", "it says PasswordAuthentication yes"),
        ("  permitrootlogin\tYES\n", "it says PermitRootLogin yes"),
        ("PermitRootLogin=yes\nPasswordAuthentication yes", "it says PasswordAuthentication yes and PermitRootLogin yes"),
    ],
)
def test_password_login_that_is_set_is_a_warning(data: str, said: str):
    (found,) = findings_in("/etc/ssh/sshd_config.d/50-cloud.conf", REGULAR, data.encode())
    assert (found.code, found.severity, found.detail) == ("ssh.password_login", "warning", said)


@pytest.mark.parametrize(
    "data", ["#PasswordAuthentication yes\n", "PermitRootLogin prohibit-password\n", "X yes\n", "PermitRootLogin yesterday"]
)
def test_password_login_that_is_not_set_is_fine(data: str):
    assert codes("/etc/ssh/sshd_config", data) == codes("/etc/ssh/ssh_config", "PasswordAuthentication yes") == []


def test_user_data_and_machine_id_are_warnings():
    found = findings_in("/var/lib/cloud/instances/i-1/user-data.txt", REGULAR, b"#cloud-config\n")
    found += findings_in("/etc/machine-id", REGULAR, b"0123456789abcdef0123456789abcdef\n")
    assert [(each.code, each.severity) for each in found] == [
        ("secret.cloud_init", "warning"),
        ("identity.machine_id", "warning"),
    ]
    assert codes("/etc/machine-id", "uninitialized\n") == codes("/etc/machine-id", "\n") == []


def test_every_finding_has_a_remedy_and_no_secret():
    data = f"{AWS_ID} aws_secret_access_key={AWS_KEY}\n".encode() + key()
    for found in findings_in("/root/.bash_history", REGULAR, data):
        assert found.remedy
        assert not any(secret in f"{found.detail}{found.remedy}{found.path}" for secret in SAID_SECRETS)


def test_hostile_name_becomes_one_bounded_line():
    (found,) = findings_in("/x\n\x1b[2J\udcff" + "/a" * 40_000 + "/.bash_history", REGULAR, b"x")
    assert len(found.path) <= MAX_PATH
    assert found.path.isprintable()


@pytest.mark.parametrize(
    "unit",
    [
        b"-----BEGIN ",
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"PRIVATE KEY-----A",
        b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * 59 + b"\n",
        b"AKIA",
        b"aws_secret_access_key = ",
        b"xoxb-1",
        b"://a:b",
        b"a:b:c:d",
        b'"auth" : "',
        b'"service_account" "private_key":"-----BEGIN ',
        b"client-key-data:" + b" " * 40,
        b"ssh-" + b"a" * 60,
        b"password ",
        b"\n \n",
        b" ",
        b"\x00",
        b"~Q~_client_secret",
        b"ghp_github_pat_",
        b"PasswordAuthentication ",
    ],
)
@pytest.mark.parametrize("path", ["/root/.ssh/authorized_keys", "/etc/ssh/sshd_config", "/root/.pgpass", "/root/.netrc"])
def test_no_content_takes_long(path: str, unit: bytes):
    data = unit * (FILE_BYTES // len(unit))
    started = time.process_time()
    findings_in(path, REGULAR, data)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("unit", ["/.a_history-", "/ssh_host_", "/.", "_history", "/dropbear_", "/a"])
def test_no_name_takes_long(unit: str):
    started = time.process_time()
    findings_in(unit * (65_536 // len(unit)), REGULAR, b"x")
    assert time.process_time() - started < 1


def test_links_that_matter_are_followed_and_others_not():
    assert [follows(each) for each in ("/root/.ssh/authorized_keys", "/etc/shadow", "/root/.bash_history")] == [
        True,
        True,
        False,
    ]
    assert matters_by_name("/root/.bash_history")
    assert matters_by_name("/root/.netrc")
    assert not matters_by_name("/opt/app/settings")


def test_findings_are_sorted_unique_and_counted_beyond_what_is_kept():
    many = [each for at in range(MAX_FINDINGS) for each in findings_in(f"/{at:04}/.bash_history", REGULAR, b"x")]
    warned = findings_in("/etc/machine-id", REGULAR, b"x")
    kept, more = settled([*warned, *reversed(many), *many])
    assert list(kept) == many
    assert more == 1
