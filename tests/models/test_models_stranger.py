"""What a stranger learns of a victim from any query of the catalog: nothing, not even that it is there; on both databases."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
from catalog_rows import Catalog
from sqlmodel import Session
from stranger_exempt import EXEMPT
from stranger_table import ASKS, Ask
from victim_rows import THIRD, VICTIM, Planted, absent, as_nobody, plant_others, plant_victim

import models
from models.exceptions import CatalogError

CALLS = [(name, place, ask) for name, asks in ASKS.items() for place, ask in enumerate(asks)]


def queries() -> Iterator[str]:
    """Every public function of the catalog that takes a session, as `module.name`."""
    for found in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"models.{found.name}")
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
            if own and "session" in inspect.signature(function).parameters:
                yield f"{found.name}.{name}"


@pytest.fixture
def planted(catalog: Catalog) -> Planted:
    with catalog.write() as session:
        planted = plant_others(session)
        plant_victim(session, planted)
    return planted


def answer(session: Session, ask: Ask, *, who: str, about: str, planted: Planted | None = None) -> str:
    """What the account gets, as text in which the id or name that it gave is no difference. Nothing is kept of it."""
    try:
        told = repr(ask.call(session, who, about))
        told += f" changed {planted.harmed(session)}" if planted and planted.harmed(session) else ""
    except CatalogError as refusal:
        told = f"{type(refusal).__name__}{refusal.args!r} {refusal}"
    session.rollback()
    session.expunge_all()
    return told.replace(about, "SUBJECT") if about else told


def findings(session: Session, planted: Planted, ask: Ask) -> Iterator[str]:
    """How the answers to one call differ from those about what never was, or change what is the victim's."""
    for kind in ask.about:
        nothing = as_nobody(answer(session, ask, who=ask.who, about=absent(kind)))
        for label, subject in planted.subjects[kind].items():
            told = answer(session, ask, who=ask.who, about=subject, planted=planted)
            if label not in ask.but and (as_nobody(told) != nothing or planted.traced(told)):
                yield f"{ask.who} about {kind} {label}: {told} with {planted.traced(told)}, about nothing: {nothing}"


def test_every_query_is_in_the_table() -> None:
    assert sorted(queries()) == sorted([*ASKS, *EXEMPT])


def test_stranger_cannot_tell_what_is_there_from_what_is_not(catalog: Catalog, planted: Planted) -> None:
    with catalog.write() as session:
        found = [f"{name}: {finding}" for name, _, ask in CALLS for finding in findings(session, planted, ask)]
    assert not found, "\n".join(found)


def test_lists_of_a_stranger_are_as_without_the_victim(catalog: Catalog) -> None:
    asks = {(name, place): ask for name, place, ask in CALLS if not ask.about}
    with catalog.write() as session:
        planted = plant_others(session)
    with catalog.write() as session:
        before = {key: answer(session, ask, who=ask.who, about="") for key, ask in asks.items()}
    with catalog.write() as session:
        plant_victim(session, planted)
    with catalog.write() as session:
        after = {key: answer(session, ask, who=ask.who, about="") for key, ask in asks.items()}
    assert after == before
    assert not [key for key, told in after.items() if planted.traced(told)]


def test_who_may_know_is_told(catalog: Catalog, planted: Planted) -> None:
    """The calls are about what is there: its owner, a member or a reviewer gets another answer to each of them."""
    with catalog.write() as session:
        untold = [
            f"{name} {place}"
            for name, place, ask in CALLS
            if ask.about and ask.told != any(is_told(session, planted, ask, who) for who in (VICTIM, THIRD, ask.who))
        ]
    assert not untold


def is_told(session: Session, planted: Planted, ask: Ask, who: str) -> bool:
    return any(
        as_nobody(answer(session, ask, who=who, about=subject)) != as_nobody(answer(session, ask, who=who, about=absent(kind)))
        for kind in ask.about
        for subject in planted.subjects[kind].values()
    )
