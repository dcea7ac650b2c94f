"""The marketplace with real guests: the gate, the way to a listing, subscribers, derivatives, withdrawal, revocation."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Service
from guest_shell import shell
from parties import Party

from deployments.sample_guest.disk import ROOT_START

pytestmark = pytest.mark.guest

AWS = "[default]\naws_access_key_id = AKIAQ3EGRTNYDL4WZ7XB\naws_secret_access_key = 3fQx9ZpLw7VtKc1RmBn8YsHjD5aGeUoT2iNq6XyA\n"
PLANTED = {
    "secret.authorized_keys": "/home/ims/.ssh/authorized_keys",
    "secret.cloud_credentials": "/home/ims/.aws/credentials",
    "secret.default_password": "/etc/shadow",
    "secret.private_key": "/home/ims/deploy.key",
}
CLEAN = "rm -r /home/ims/.ssh /home/ims/.aws /home/ims/deploy.key; sed -i 's/^root:[^:]*:/root:!:/' /etc/shadow; sync"
LICENCE = "You may use it.\nYou may not give it away.\n"


def publish(party: Party, image: str, version: str, folder: Path) -> dict[str, Any]:
    licence = folder / "licence.txt"
    licence.write_text(LICENCE)
    told = ["--title", "Cleaned sample", "--version", version, "--summary", "A small guest", "--support", "help at example"]
    return party.ims("market", "publish", image, *told, "--category", "os", "--licence", str(licence))


def findings(view: dict[str, Any]) -> dict[str, str]:
    """Code and path of what rejected a version."""
    return {found["code"]: found["path"] for found in view["findings"] if found["severity"] == "finding"}


@pytest.fixture(scope="module")
def publisher(service: Service) -> Party:
    return Party.join(service, "market-publisher")


@pytest.fixture(scope="module")
def buyer(service: Service) -> Party:
    return Party.join(service, "market-buyer")


@pytest.fixture(scope="module")
def reviewer(service: Service) -> Party:
    return Party.join(service, "market-reviewer", "--reviewer")


@pytest.fixture(scope="module")
def dirty(publisher: Party, sample_disk: Path, folder: Path) -> dict[str, Any]:
    """The sample guest with a private key, an authorized key, an AWS credential and a set root password."""
    disk = folder / "planted.raw"
    disk.write_bytes(sample_disk.read_bytes())
    key, authorized = folder / "planted-key", folder / "planted-authorized"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    authorized.write_text(f"ssh-ed25519 {base64.b64encode(bytes(51)).decode()} someone\n")
    hashed = subprocess.run(["openssl", "passwd", "-6", "toor"], capture_output=True, text=True, check=True).stdout.strip()
    shadow = folder / "planted-shadow"
    shadow.write_text(_shadow_of(disk).replace("root:!:", f"root:{hashed}:"))
    credentials = folder / "planted-aws"
    credentials.write_text(AWS)
    script = ["mkdir /home/ims/.ssh", "mkdir /home/ims/.aws", "rm /etc/shadow", f"write {shadow} /etc/shadow"]
    script += [f"write {authorized} /home/ims/.ssh/authorized_keys", f"write {credentials} /home/ims/.aws/credentials"]
    script += [f"write {key} /home/ims/deploy.key"]
    _debugfs(disk, "\n".join(script), "-w")
    return publisher.ims("image", "import", str(disk), "--format", "raw", "--name", "planted", "--verify", "none")


def _debugfs(disk: Path, script: str, *options: str) -> str:
    command = ["debugfs", *options, "-f", "-", f"{disk}?offset={ROOT_START}"]
    return subprocess.run(command, input=script + "\n", capture_output=True, text=True, check=True).stdout


def _shadow_of(disk: Path) -> str:
    return _debugfs(disk, "cat /etc/shadow").partition("\n")[2]


@pytest.fixture(scope="module")
def rejected(publisher: Party, dirty: dict[str, Any], folder: Path) -> dict[str, Any]:
    return publish(publisher, dirty["id"], "0.9", folder)


@pytest.fixture(scope="module")
def cleaned(publisher: Party, rejected: dict[str, Any]) -> dict[str, Any]:
    """An image captured from an ECS of the rejected one, after what was found was removed inside."""
    ecs = publisher.ims("ecs", "launch", rejected["version"]["image_id"], "--name", "cleaning", "--flavor", "tiny")
    try:
        shell(ecs["id"], CLEAN)
        return publisher.ims("ecs", "capture", ecs["id"], "--name", "cleaned", "--verify", "none")
    finally:
        publisher.ims("ecs", "delete", ecs["id"])


@pytest.fixture(scope="module")
def listed(publisher: Party, reviewer: Party, cleaned: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The cleaned capture as a listed version, approved by command."""
    view = publish(publisher, cleaned["id"], "1.0", folder)
    assert findings(view) == {}
    assert view["version"]["state"] == "in_review"
    assert publisher.refused("market", "review", view["version"]["id"], "--decision", "approve") == "account.reviewer"
    (waiting,) = [row for row in reviewer.ims("market", "reviews")["reviews"] if row["owner"] == publisher.name]
    assert waiting["id"] == view["version"]["id"]
    return reviewer.ims("market", "review", waiting["id"], "--decision", "approve", "--note", "clean")


def test_planted_guest_is_rejected_with_its_four_findings(rejected: dict[str, Any], publisher: Party) -> None:
    assert (rejected["version"]["state"], findings(rejected)) == ("rejected", PLANTED)
    assert all(found["remedy"] for found in rejected["findings"])
    told = publisher.ims("image", "report", rejected["version"]["scan_id"])
    assert all(path in told["report"] for path in PLANTED.values())
    assert not any(secret in str(told) for secret in ("AKIAQ3EGRTNYDL4WZ7XB", "$6$", "OPENSSH PRIVATE"))
    assert "CycloneDX" in told["sbom"]


def test_cleaned_capture_is_listed_and_a_second_answer_changes_nothing(
    listed: dict[str, Any], reviewer: Party, buyer: Party
) -> None:
    version = listed["version"]
    assert (version["state"], version["reviewer"], version["number"]) == ("listed", reviewer.name, 2)
    assert reviewer.refused("market", "review", version["id"], "--decision", "reject") == "version.state"
    (row,) = buyer.ims("market", "list", "--search", "clean samp", "--category", "os")["listings"]
    assert (row["title"], row["version_id"], row["subscribed"]) == ("Cleaned sample", version["id"], False)
    assert end_of_review(version["review_run_id"] if "review_run_id" in version else listed["review_url"]) == "Completed"


def end_of_review(address: str) -> str:
    """State of the run that asked, which ends by itself once the command has answered."""
    from prefect.client.orchestration import get_client

    run_id, deadline = address.rpartition("/")[2], time.monotonic() + 90
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(run_id).state
            if (state and state.is_final()) or time.monotonic() > deadline:
                return state.name if state else ""
            time.sleep(1)


def test_listed_image_is_protected(listed: dict[str, Any], publisher: Party) -> None:
    image = listed["version"]["image_id"]
    assert publisher.refused("image", "delete", image) == "image.listed"
    assert publisher.refused("image", "deactivate", image) == "image.listed"


def test_rescan_tells_of_what_became_known_since(listed: dict[str, Any], service: Service, folder: Path) -> None:
    osv = folder / "osv"
    osv.mkdir()
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
    affected = [{"package": {"ecosystem": "Debian:12", "name": "bash"}, "ranges": ranges}]
    entry = {"id": "TEST-2026-1", "modified": "2026-01-01T00:00:00Z", "affected": affected}
    (osv / "TEST-2026-1.json").write_text(json.dumps(entry))
    version = listed["version"]["id"]
    for expected in (["vulnerability.known"], []):  # what is known already is not told again
        found = service.ims("market", "rescan", IMS_OSV_DUMP=str(osv))["found"]
        assert [each["code"] for row in found if row["version_id"] == version for each in row["new"]] == expected
    assert not any(row["error"] for row in found)
    assert service.ims("market", "version", version)["version"]["state"] == "listed"


def test_subscriber_launches_and_keeps_what_comes_of_it(
    listed: dict[str, Any], publisher: Party, buyer: Party, folder: Path
) -> None:
    image, title = listed["version"]["image_id"], "Cleaned sample"
    assert buyer.refused("ecs", "launch", image, "--name", "early") == "image.not_subscribed"
    assert buyer.refused("market", "subscribe", title) == "request.licence"
    assert buyer.refused("market", "subscribe", title, "--licence", "0" * 64) == "request.licence"
    assert buyer.ims("market", "show", title)["licence"] == LICENCE
    buyer.ims("market", "subscribe", title, "--accept")
    assert buyer.sees() == {"cleaned": "marketplace"}
    ecs = buyer.ims("ecs", "launch", image, "--name", "bought", "--flavor", "tiny")
    assert ecs["ready_by"] == "agent"
    derived = buyer.ims("ecs", "capture", ecs["id"], "--name", "derived", "--no-generalize", "--verify", "none")
    assert derived["licences"] == [listed["version"]["id"]]
    target = str(folder / "taken.raw")
    assert buyer.refused("image", "export", image, "--format", "raw", "--to", target) == "image.not_own"
    assert buyer.refused("image", "export", derived["id"], "--format", "raw", "--to", target) == "image.licensed"
    assert buyer.refused("image", "share", derived["id"], publisher.name) == "image.licensed"
    assert buyer.refused("image", "scan", derived["id"]) == "image.licensed"

    publisher.ims("market", "withdraw", listed["version"]["id"], "--for", "new")
    assert buyer.ims("market", "list", "--search", "cleaned")["listings"] == []
    assert buyer.sees() == {"cleaned": "marketplace", "derived": "private"}
    publisher.ims("market", "withdraw", listed["version"]["id"], "--for", "all")
    assert buyer.sees() == {"derived": "private"}
    assert buyer.ims("ecs", "show", ecs["id"])["domain"] == "running"

    revoked = publisher.ims("image", "revoke", image, "--descendants")
    assert ([each["id"] for each in revoked["images"]], revoked["ecs"]) == ([image], [])
    everything = publisher.service.ims("image", "revoke", image, "--descendants")
    assert [each["id"] for each in everything["images"]] == [image, derived["id"]]
    assert [each["id"] for each in everything["ecs"]] == [ecs["id"]]
    assert buyer.refused("ecs", "launch", derived["id"], "--name", "late") == "image.state"
    buyer.ims("ecs", "delete", ecs["id"])
