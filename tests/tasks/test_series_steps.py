"""What images of a series are called, and what the report and the error of a run say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import TypeAdapter

from tasks.engine.errors import CaptureRefused
from tasks.requests import Name
from tasks.series import artifact_key, image_name, require_captured
from tasks.series_report import DRY_RUN, NO_ECS, Capture, Line, Member, Rule, Thinned, series_markdown, series_view
from tasks.views import ImageView

MOMENT = datetime(2026, 11, 25, 2, 0, 31, tzinfo=UTC)
DRY, APPLIED = Rule(series="nightly", keep=1, apply=False), Rule(series="nightly", keep=1, apply=True)


def line(name: str, reason: str = "", *, day: int = 24) -> Line:
    return Line(
        id=f"id-{name}", name=name, state="active", created_at=MOMENT.replace(day=day), bytes_stored=1 << 20, reason=reason
    )


IMAGE = ImageView.model_construct(
    id="id-new", name="web 2026-11-25 0200", state="active", bytes_stored=3 << 20, bytes_new=1 << 19, consistency="filesystem"
)
IMAGE.generalized = True
DONE = Capture(member=Member(asked="web", ecs_id="1", image_name="web 2026-11-25 0200"), image=IMAGE)
FAILED = Capture(member=Member(asked="d`b|", ecs_id=None, image_name="db"), error="ecs.not_found: no ecs <img>")
THINNED = Thinned(kept=[line("new", "one of the newest 1", day=25)], surplus=[line("old")])


@pytest.mark.parametrize("name", ["web", "w" * 128, "w" * 111 + " x" * 8, "d/b|ü", " ", "-"])
def test_image_name_is_within_the_rule(name: str) -> None:
    made = image_name(name, MOMENT)
    assert TypeAdapter(Name).validate_python(made) == made
    assert made.endswith(" 2026-11-25 0200")


def test_image_name_is_in_utc() -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=5)))
    assert image_name("web", east) == "web 2026-11-25 0200"


def test_artifact_key_is_one_that_prefect_takes() -> None:
    assert artifact_key("alice", "Nightly of DB_1") == "series-alice-nightly-of-db-1"
    assert re.fullmatch(r"[a-z0-9-]+", artifact_key("a.b", "..."))


def test_report_of_a_dry_run_says_so_first() -> None:
    text = series_markdown(DRY, [DONE], [THINNED])
    assert text.split("\n\n")[1] == DRY_RUN
    assert "| `web` | web 2026-11-25 0200 | active | 3.0 MiB | 0.5 MiB | filesystem | yes |" in text
    assert "| kept: one of the newest 1 | new | active | 2026-11-25 02:00 UTC | 1.0 MiB | `id-new` |" in text
    assert "| **WOULD DELETE** | old | active | 2026-11-24 02:00 UTC | 1.0 MiB | `id-old` |" in text
    assert "**deleted**" not in text


def test_report_with_apply_says_what_is_gone() -> None:
    text = series_markdown(APPLIED, [DONE], [THINNED])
    assert "Deleted: 1" in text
    assert "| **deleted** | old |" in text
    assert "WOULD" not in text


def test_report_of_a_failure_is_fenced_and_breaks_no_table() -> None:
    text = series_markdown(APPLIED, [DONE, FAILED], [THINNED, Thinned()])
    assert "| `db\\|` | none | **failed** |  |  |  |  |" in text
    assert "text\nd`b|: ecs.not_found: no ecs <img>\n" in text
    assert text.count("## Series of") == 1


def test_report_without_ecs_says_how_to_name_some() -> None:
    assert NO_ECS in series_markdown(DRY, [], [])


def test_view_tells_deleted_from_would_delete() -> None:
    dry, applied = (series_view(rule, [DONE, FAILED], [THINNED, Thinned()], artifact="a") for rule in (DRY, APPLIED))
    assert (dry.captured, dry.deleted, dry.would_delete) == (["id-new"], [], ["id-old"])
    assert (applied.deleted, applied.would_delete) == (["id-old"], [])
    assert dry.failed == ["d`b|: ecs.not_found: no ecs <img>"]


def test_run_with_a_failure_is_refused_after_the_report() -> None:
    require_captured([DONE])
    with pytest.raises(CaptureRefused, match=r"capture.series: 1 of 2 ECSs were not captured: d`b\|: ecs.not_found"):
        require_captured([DONE, FAILED])
