"""A series of captures of a real ECS: what runs keep and delete, and one that fails for one ECS of two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from commands import Outcome, Service

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def ecs(service: Service, sample_image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    made = service.ims("ecs", "launch", sample_image["id"], "--name", "often", "--flavor", "tiny")
    yield made
    service.ims("ecs", "delete", made["id"])


def capture(service: Service, series: str, *arguments: str) -> Outcome:
    options = ["--series", series, "--keep", "1", "--verify", "none", "--no-generalize"]
    return service.run("series", "run", *options, *arguments)


def images(service: Service, series: str) -> list[str]:
    """Ids of the images of a series, newest first."""
    return [image["id"] for image in service.ims("image", "list")["images"] if image["series"] == series]


def test_runs_thin_the_series_on_apply_alone(service: Service, ecs: dict[str, Any]) -> None:
    first, second = (capture(service, "thinned", "often").answer for _ in range(2))
    assert second["would_delete"] == first["captured"]
    assert (first["would_delete"], second["deleted"]) == ([], [])
    third = capture(service, "thinned", "often", "--apply").answer
    assert third["deleted"] == second["captured"] + first["captured"]
    assert images(service, "thinned") == third["captured"]


def test_image_of_a_series_says_where_it_belongs(service: Service, ecs: dict[str, Any]) -> None:
    (image,) = capture(service, "named", "often").answer["captured"]
    shown = service.ims("image", "show", image)
    assert (shown["series"], shown["source_ecs_id"]) == ("named", ecs["id"])
    (row,) = [row for row in service.ims("series", "list")["series"] if row["series"] == "named"]
    assert (row["ecs"], row["images"], row["bytes_stored"]) == ("often", 1, shown["bytes_stored"])


def test_ecs_that_is_not_there_fails_alone(service: Service, ecs: dict[str, Any]) -> None:
    capture(service, "halved", "often")
    run = capture(service, "halved", "nowhere", "often", "--apply")
    assert (run.status, run.code) == (2, "capture.series")
    assert "nowhere: ecs.not_found" in run.answer["error"]["message"]
    assert len(images(service, "halved")) == 1


def test_run_is_refused_what_the_form_would_refuse(service: Service) -> None:
    assert service.refused("series", "run", "web", "--keep", "0") == "request.keep"
