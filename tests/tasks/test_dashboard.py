"""The Grafana dashboard asks for what `ims metrics` exports, and for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalog_home import Home
from prometheus_client.parser import text_string_to_metric_families

from models.operations import Owner, Request, begin_operation, fail, finish
from tasks.metrics import exposition
from tasks.resources import catalog

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deployments" / "grafana" / "ims.json").read_text())
COUNTERS = '{"fetched_chunks":1,"fetched_bytes":1,"filled_chunks":0,"hits":1,"failures":0,"cache_bytes":1,"cache_capacity":2'
FUNCTIONS = {"sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "time", "vector", "or", "kind", "le"}
SELECTOR = re.compile(r"(ims_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\s*([a-z_]+)(=|=~|!=|!~)"[^"]*"\s*')


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


EXPRESSIONS = [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def exported(home: Home) -> dict[str, set[str]]:
    """Every sample's name with its labels, of a catalog that has one of everything."""
    (home.path / "run" / "nbd-stats.json").write_text(COUNTERS + ',"read":{},"started":1}')
    for key in ("done", "failed", "running"):
        with catalog(write=True) as session:
            request = Request(kind="import", account="alice", key=key)
            begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
            assert begun.lease is not None
            if key == "done":
                finish(session, lease=begun.lease, result={})
            if key == "failed":
                fail(session, lease=begun.lease, code="defect", message="broken")
    with home.rows.write() as session:
        home.rows.building(session, home.rows.active(session))
    families = text_string_to_metric_families(exposition().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_every_metric_and_label_of_it_is_exported(exported: dict[str, set[str]]) -> None:
    asked = [match for expression in EXPRESSIONS for match in SELECTOR.finditer(expression)]
    assert len(asked) > 20
    for match in asked:
        name, matchers = match.group(1), match.group(2) or ""
        assert name in exported
        assert {MATCHER.fullmatch(each).group(1) for each in matchers.split(",") if each} <= exported[name]  # type: ignore[union-attr]


def test_every_metric_is_on_it(exported: dict[str, set[str]]) -> None:
    asked = {match.group(1) for expression in EXPRESSIONS for match in SELECTOR.finditer(expression)}
    unasked = {name for name in exported if name.removesuffix("_sum") == name} - asked
    assert unasked == set()


def test_what_is_grouped_by_is_a_label_of_what_is_grouped(exported: dict[str, set[str]]) -> None:
    for expression in EXPRESSIONS:
        for labels, rest in re.findall(r"by \(([a-z, ]+)\) \((.*)", expression):
            name = SELECTOR.search(rest)
            assert name is not None
            assert {each.strip() for each in labels.split(",")} <= exported[name.group(1)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_query_is_well_formed(expression: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression)
    assert nested(bare)
    without = re.sub(r"\{[^}]*\}|\[(?:\$__rate_interval|\d+[smh])\]|ims_[a-z_]+|by \([a-z, ]+\)", "", bare)
    assert set(re.findall(r"[A-Za-z_]+", without)) <= FUNCTIONS
    assert not re.search(r"[^\w\s().,/*+-]", without)


def nested(text: str) -> bool:
    """Whether every bracket is closed by its own."""
    open_: list[str] = []
    for each in text:
        if each in "([{":
            open_.append(")]}"["([{".index(each)])
        elif each in ")]}" and (not open_ or open_.pop() != each):
            return False
    return not open_


def test_no_source_of_data_is_named() -> None:
    sources = [value for value in walk(DASHBOARD) if isinstance(value, dict) and value.get("type") == "prometheus"]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0] == {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


def walk(value: Any) -> Iterator[Any]:
    yield value
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(below)


def test_panels_lie_beside_each_other() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels()}) == len(panels())
