"""Files put into the inbox: imported without anyone asking, once, by notification or by the sweep; told beside them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Service
from notices import notification, record
from parties import Party

from deployments.embedded import environment
from tasks.engine.errors import ImsError
from tasks.engine.settings import load_settings
from tasks.resources import images_bucket, inbox_bucket

pytestmark = pytest.mark.server
PATIENCE = 180
OFTEN = 'a folder/o\'ften {{ 7*7 }} "x" + ü.raw'
"""A name that templates, URLs and JSON would each make something else of."""

PLAIN = {"format": "raw", "verify": "none"}


@pytest.fixture(scope="module")
def owner(service: Service) -> Party:
    """Of an inbox that holds nothing of other tests: a sweep takes up whatever it finds."""
    for found in list(inbox_bucket().list("")):
        inbox_bucket().delete(found.key)
    return Party.join(service, "inbox-owner")


@pytest.fixture(autouse=True)
def _empty_afterwards(service: Service) -> Iterator[None]:
    yield
    bucket = inbox_bucket()
    for prefix in ("inbox-", "nobody-"):
        for found in list(bucket.list(prefix)):
            bucket.delete(found.key)


def disk(seed: int, *, mib: int = 2) -> bytes:
    return random.Random(seed).randbytes(mib << 20)


def put(owner: Party, key: str, body: bytes, sidecar: dict[str, Any] | None = None) -> None:
    """The sidecar first, as the README says."""
    if sidecar is not None:
        inbox_bucket().put(f"{owner.name}/{key}.json", json.dumps(sidecar).encode())
    inbox_bucket().put(f"{owner.name}/{key}", body)


def sweep() -> Any:
    from flows.watch_inbox import watch_inbox

    return watch_inbox()


def eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
    return answer


def result_of(owner: Party, key: str, *, state: str) -> dict[str, Any]:
    """What lies beside the object, once it says this state."""

    def ask() -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads(inbox_bucket().get(f"{owner.name}/{key}.result.json", limit=1 << 16))
        except ImsError:
            return None
        return told if told["state"] == state else None

    found: dict[str, Any] = eventually(ask, f"no result of {key} says {state}")
    return found


def images(owner: Party, name: str) -> list[dict[str, Any]]:
    found = owner.ims("image", "list", "--limit", "1000")["images"]
    return [image for image in found if image["name"] == name]


def state_of(owner: Party, key: str) -> str:
    (row,) = [row for row in owner.ims("inbox", "list")["inbox"] if row["key"] == key]
    return str(row["state"])


def runs_of(owner: Party, key: str) -> list[Any]:
    """Runs of the deployment for this object, unfinished ones too."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    named = DeploymentFilter(name=DeploymentFilterName(any_=["import-announced"]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(deployment_filter=named, limit=200)
    return [run for run in runs if run.parameters == {"key": key, "account": owner.name}]


def announce(owner: Party, key: str, **values: Any) -> int:
    """Post what MinIO would, and give the answer's status."""
    settings = load_settings()
    token = environment.read(settings.home)["IMS_INBOX_TOKEN"]
    body = notification(record(f"{owner.name}/{key}", **values))
    url = f"http://{settings.inbox_listen}/notify"
    return httpx.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code


def test_file_with_a_sidecar_is_imported_by_the_sweep_once_and_a_new_body_anew(owner: Party) -> None:
    said = {"name": "swept", "tags": ["golden"], "description": "by itself", **PLAIN}
    put(owner, "folder/first disk.raw", disk(1), said)
    assert sweep().started == [f"{owner.name}/folder/first disk.raw"]
    assert sweep().started == []
    told = result_of(owner, "folder/first disk.raw", state="imported")
    image = owner.ims("image", "show", told["image_id"])
    assert (image["name"], image["tags"], image["digest"]) == ("swept", ["golden"], told["digest"])
    assert (image["source"], told["disks"][0]["virtual_size"]) == ("inbox:folder/first disk.raw", 2 << 20)
    assert "/runs/flow-run/" in told["run_url"]
    eventually(lambda: state_of(owner, "folder/first disk.raw") == "imported", "it is not imported")
    assert sweep().started == []

    put(owner, "folder/first disk.raw", disk(2))
    assert sweep().started == [f"{owner.name}/folder/first disk.raw"]
    eventually(lambda: len(images(owner, "swept")) == 2, "the new body was not imported")
    again = eventually(lambda: _other(owner, told), "the new body has no result")
    assert again["digest"] != told["digest"]


def _other(owner: Party, told: dict[str, Any]) -> dict[str, Any] | None:
    now = result_of(owner, "folder/first disk.raw", state="imported")
    return now if now["image_id"] != told["image_id"] else None


def test_file_announced_often_and_swept_at_once_is_one_image(owner: Party) -> None:
    put(owner, OFTEN, disk(3, mib=16), {"name": "often", **PLAIN})
    with ThreadPoolExecutor(6) as pool:
        announced = [pool.submit(announce, owner, OFTEN, sequencer=str(number)) for number in range(5)]
        announced.append(pool.submit(announce, owner, OFTEN, sequencer="0"))  # the same one posted again
        sweep()
        assert {each.result() for each in announced} == {200}
    result_of(owner, OFTEN, state="imported")
    eventually(lambda: len(runs_of(owner, OFTEN)) >= 5, "the event started no run")
    eventually(lambda: all(run.state.is_final() for run in runs_of(owner, OFTEN)), "runs do not end")
    runs = runs_of(owner, OFTEN)
    by_event = [run for run in runs if run.created_by and run.created_by.type == "AUTOMATION"]
    assert len(by_event) == 5
    assert [image["state"] for image in images(owner, "often")] == ["active"]
    assert {run.state.name for run in runs} == {"Completed"}


def test_receiver_asks_for_its_token(service: Service) -> None:
    url = f"http://{load_settings().inbox_listen}/notify"
    assert httpx.post(url, json=notification(record("inbox-owner/x"))).status_code == 401


def test_refusal_is_left_beside_and_stands_until_the_sidecar_is_corrected(owner: Party) -> None:
    put(owner, "wrong.raw", disk(4), {"name": "wrong", "checksum": f"sha256:{'0' * 64}", **PLAIN})
    sweep()
    told = result_of(owner, "wrong.raw", state="refused")
    assert (told["code"], bool(told["remedy"]), "image_id" in told) == ("source.checksum", True, False)
    eventually(lambda: state_of(owner, "wrong.raw") == "refused", "it is not refused")
    eventually(lambda: all(run.state.is_final() for run in runs_of(owner, "wrong.raw")), "its run does not end")
    seen = sweep()
    assert (seen.started, [each.code for each in seen.attention if each.account == owner.name]) == ([], ["source.checksum"])

    put(owner, "wrong.raw", disk(4), {"name": "right", "surprise": 1})
    assert state_of(owner, "wrong.raw") == "due"
    with pytest.raises(ImsError):
        run_here(owner, "wrong.raw")
    assert (_code(owner, "wrong.raw"), state_of(owner, "wrong.raw")) == ("request.sidecar", "refused")

    put(owner, "wrong.raw", disk(4), {"name": "right", **PLAIN})
    assert run_here(owner, "wrong.raw").state == "imported"
    assert [image["state"] for image in images(owner, "right")] == ["active"]


def _code(owner: Party, key: str) -> str:
    return str(json.loads(inbox_bucket().get(f"{owner.name}/{key}.result.json", limit=1 << 16)).get("code"))


def test_removed_refusal_is_tried_again(owner: Party, service: Service) -> None:
    service.ims("account", "set", owner.name, "--max-bytes", "1")
    put(owner, "large.raw", disk(5), {"name": "large", **PLAIN})
    with pytest.raises(ImsError) as refused:
        run_here(owner, "large.raw")
    assert refused.value.code == "quota.bytes" == _code(owner, "large.raw")
    service.ims("account", "set", owner.name, "--max-bytes", str(1 << 40))
    assert run_here(owner, "large.raw").state == "refused"
    inbox_bucket().delete(f"{owner.name}/large.raw.result.json")
    assert run_here(owner, "large.raw").state == "imported"
    assert [image["state"] for image in images(owner, "large")] == ["active"]


def run_here(owner: Party, key: str) -> Any:
    """The flow in this process, which has the operator's key."""
    from flows.import_announced import import_announced

    return import_announced(key=key, account=owner.name)


def test_removed_result_is_written_again_and_nothing_imported(owner: Party) -> None:
    put(owner, "kept.raw", disk(6), {"name": "kept", **PLAIN})
    first = run_here(owner, "kept.raw")
    told = result_of(owner, "kept.raw", state="imported")
    inbox_bucket().delete(f"{owner.name}/kept.raw.result.json")
    assert run_here(owner, "kept.raw").image_id == first.image_id
    assert result_of(owner, "kept.raw", state="imported") == told
    assert len(images(owner, "kept")) == 1


def test_sidecar_that_comes_a_little_later_still_counts(owner: Party) -> None:
    put(owner, "late.raw", disk(7))
    later = threading.Timer(3, lambda: inbox_bucket().put(f"{owner.name}/late.raw.json", b'{"name": "named late"}'))
    later.start()
    assert run_here(owner, "late.raw").state == "imported"
    later.join()
    assert len(images(owner, "named late")) == 1


def test_killed_import_of_a_file_goes_on_as_one_image(owner: Party, service: Service) -> None:
    put(owner, "killed.raw", disk(8, mib=96), {"name": "killed", **PLAIN})
    before = {found.key for found in images_bucket().list("chunks/")}
    code = f"from flows.import_announced import import_announced as run; run(key='killed.raw', account={owner.name!r})"
    victim = subprocess.Popen([sys.executable, "-c", code], env=service.environment(), stderr=subprocess.DEVNULL)
    eventually(lambda: {found.key for found in images_bucket().list("chunks/")} - before, "no chunk arrives")
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert state_of(owner, "killed.raw") == "due"
    assert sweep().started == [f"{owner.name}/killed.raw"]
    result_of(owner, "killed.raw", state="imported")
    assert [image["state"] for image in images(owner, "killed")] == ["active"]


def test_hostile_names_are_told_and_stop_no_other(owner: Party) -> None:
    bucket = inbox_bucket()
    bucket.put("nobody-knows/disk.raw", disk(9))
    bucket.put(f"{owner.name}/direction\u202ewar.ksid", disk(9))
    bucket.put(f"{owner.name}/{'x' * 250}/{'y' * 250}/{'z' * 250}/{'w' * 200}", disk(9))
    put(owner, "honest.raw", disk(10), {"name": "honest", **PLAIN})
    seen = sweep()
    assert seen.started == [f"{owner.name}/honest.raw"]
    assert [each.code for each in seen.attention if each.state == "ignored"] == ["request.inbox_key"] * 3
    result_of(owner, "honest.raw", state="imported")


def test_every_new_image_with_a_tag_is_shared_by_the_example(owner: Party, service: Service, folder: Path) -> None:
    friend = Party.join(service, "inbox-friend")
    settings = load_settings()
    example = Path(__file__).parents[2] / "deployments/examples/share_tagged.yaml"
    given = {"IMS_HOST": settings.host, "IMS_TAG": "share-me", "IMS_OWNER": owner.name, "IMS_RECIPIENT": friend.name}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(example)]
    subprocess.run(command, env=service.environment(PREFECT_HOME=str(settings.home / "prefect"), **given), check=True)
    path = folder / "tagged.raw"
    path.write_bytes(disk(11))
    brought = ["image", "import", str(path), "--format", "raw", "--verify", "none"]
    plain = owner.ims(*brought, "--name", "plain", "--tag", "other")
    tagged = owner.ims(*brought, "--name", "tagged", "--tag", "other", "--tag", "share-me")
    (offer,) = eventually(lambda: friend.ims("image", "offers")["offers"], "nothing was shared")
    assert (offer["image_id"], offer["owner"], offer["digest"]) == (tagged["id"], owner.name, tagged["digest"])
    assert owner.ims("image", "members", plain["id"])["members"] == []


def test_failed_import_is_an_event(owner: Party, service: Service) -> None:
    from deployments.embedded.probes import prefect_call

    settings = load_settings()
    login = (service.home / "prefect.login").read_text().strip()
    body: dict[str, object] = {"filter": {"event": {"name": ["ims.image.error", "ims.inbox.refused", "ims.inbox.imported"]}}}

    def told() -> set[str]:
        events = (prefect_call(settings.prefect_api_url, "/events/filter", login=login, body=body) or {}).get("events", [])
        return {event["event"] for event in events if event["payload"]["account"] == owner.name}

    wanted = {"ims.image.error", "ims.inbox.refused", "ims.inbox.imported"}
    eventually(lambda: told() == wanted, "an event is missing")
