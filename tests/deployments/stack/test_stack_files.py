"""compose.yaml and what it mounts, without Docker, which these tests do not have. As real processes: test_stack_running.py."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from composing import COMPOSE, FOLDER, VARIABLE, filled, read_env, services

ROOT = FOLDER.parent
MAKE_SECRETS = FOLDER / "stack/make-secrets.sh"
EXAMPLE = read_env(FOLDER / ".env.example")
SERVICES = services()
ONE_SHOT = {"minio-buckets", "prefect-migrate"}
by_service = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after make-secrets.sh."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([MAKE_SECRETS, "images.example.org", folder], check=True)
    return folder


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and mode of each bind mount."""
    parts = [text.split(":") for text in service.get("volumes", ())]
    return [(it[0], it[1], it[2] if len(it) > 2 else "rw") for it in parts]


def test_every_variable_is_explained_and_written(made: Path) -> None:
    used = {found[0] for found in VARIABLE.findall(re.sub(r"#.*", "", COMPOSE.read_text()))}
    assert used == set(EXAMPLE)
    assert used - set(read_env(made / ".env")) == {"IMS_HOST"}


@by_service
def test_every_mounted_file_exists(name: str, made: Path) -> None:
    for source, _, _ in mounts(filled(SERVICES[name], read_env(made / ".env"))):
        if source.startswith("./secrets/"):
            assert (made / source).exists(), source
        elif source.startswith("./"):
            assert (FOLDER / source).is_file(), source
        else:
            assert source in {"/var/lib/ims", "/run/libvirt"} or Path(source).is_dir(), source


@by_service
def test_image_is_pinned_by_tag(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert tag == "${IMS_RELEASE}" if image == "ims" else re.search(r"\d+[.-]\d+[.-]\d+", tag) or tag.startswith("15.")


def test_nothing_but_the_one_address_is_published() -> None:
    assert [name for name, it in SERVICES.items() if it.get("ports")] == ["address"]
    assert all(text.startswith("${IMS_BIND}:") for text in SERVICES["address"]["ports"])
    assert EXAMPLE["IMS_BIND"] == "127.0.0.1"


@by_service
def test_service_is_confined_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:5" if name in ONE_SHOT else "unless-stopped")
    if name == "host":  # it makes namespaces and guests' files; README says so
        return
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "${IMS_UID}:${IMS_GID}")
    assert service["mem_limit"]
    assert all(mode == "ro" for source, _, mode in mounts(service) if not source.startswith("${IMS_DATA}"))


@by_service
def test_service_says_how_it_is(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    assert check or name in ONE_SHOT
    waits = {name: it["condition"] for name, it in SERVICES[name].get("depends_on", {}).items()}
    assert set(waits) <= set(SERVICES)
    assert all("test" in SERVICES[other]["healthcheck"] for other, wanted in waits.items() if wanted == "service_healthy")


def test_both_prefect_servers_are_the_same_and_only_one_process_has_the_services() -> None:
    first, second = SERVICES["prefect-api-1"], SERVICES["prefect-api-2"]
    assert {**first, "environment": None} == {**second, "environment": None}
    assert second["environment"] == {**first["environment"], "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false"}
    assert SERVICES["prefect-api-1"]["command"] == ["prefect", "server", "start", "--no-services"]
    assert SERVICES["prefect-services"]["environment"] == SERVICES["prefect-api-1"]["environment"]


def test_secrets_are_private_and_made_once(made: Path) -> None:
    files = [path for path in made.rglob("*") if path.is_file() and path.name != "ca.crt"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    before = {path: path.read_bytes() for path in files}
    subprocess.run([MAKE_SECRETS, "images.example.org", made], check=True)
    assert {path: path.read_bytes() for path in files} == before
    passwords = [value for name, value in read_env(made / ".env").items() if "PASSWORD" in name or "SECRET" in name]
    assert len(set(passwords)) == 6
    assert all(len(word) == 48 for word in passwords)


def test_password_whose_line_is_removed_is_made_anew(made: Path) -> None:
    env = made / ".env"
    before = read_env(env)
    env.write_text("".join(line for line in env.read_text().splitlines(keepends=True) if not line.startswith("REDIS_")))
    subprocess.run([MAKE_SECRETS, "images.example.org", made], check=True)
    changed = {name for name, value in read_env(env).items() if before[name] != value}
    assert changed == {"REDIS_PASSWORD"}
    assert read_env(env)["REDIS_PASSWORD"] in (made / "secrets/redis.conf").read_text()


def test_policy_names_the_three_buckets_alone() -> None:
    policy = json.loads((FOLDER / "stack/s3-policy.json").read_text())
    resources = [resource for it in policy["Statement"] for resource in it["Resource"]]
    named = {resource.removeprefix("arn:aws:s3:::").removesuffix("/*") for resource in resources}
    assert named == {"ims-images", "ims-inbox", "ims-exports"}
    assert not any("*" in action for it in policy["Statement"] for action in it["Action"])


def test_image_copies_what_exists_and_no_secret() -> None:
    lines = (FOLDER / "worker.Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert {"pyproject.toml", "constraints.txt", "prefect.yaml", "flows", "tasks", "models", "deployments"} <= set(copied)
    assert all((ROOT / word).exists() for word in copied)
    for name in (".dockerignore", ".gitignore"):
        ignored = {line.strip("/") for line in (ROOT / name).read_text().split()}
        assert {"deployments/.env", "deployments/secrets", "deployments/data"} <= ignored


@pytest.mark.parametrize("script", sorted((FOLDER / "stack").glob("*.sh")), ids=lambda path: path.name)
def test_script_is_executable_and_parses(script: Path) -> None:
    shell = script.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
    assert script.stat().st_mode & 0o111
    subprocess.run([shell, "-n", script], check=True)
