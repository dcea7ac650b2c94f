"""What a stranger learns of a victim from any flow and any command: nothing, neither what it has nor that it has it.

Queries of the catalog alone are tests/models/test_models_stranger.py. No guest, no disk: the victim's rows are made by hand.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commands import Service
from parties import Party
from sqlmodel import col, select
from stranger_visits import ASKED_ELSEWHERE, COMMANDS, FLOWS, OF_THE_HOST, REVIEWER, Visit
from victim_rows import PUBLISHER, STRANGER, VICTIM, Planted, absent, as_nobody, plant_others, plant_victim

from deployments.registering import deployment_names
from flows import cli
from models.market_tables import Version
from models.trail import Actor
from models.versions import withdraw_version
from models.vocabulary import Decision, VersionState, WithdrawnFor
from tasks.engine.errors import ImsError
from tasks.resources import catalog, inbox_bucket

pytestmark = pytest.mark.server
LISTS = [(name, place) for name, visits in COMMANDS.items() for place, visit in enumerate(visits) if not visit.about]
Lists = dict[tuple[str, int], str]


@pytest.fixture(scope="module")
def before(service: Service) -> tuple[Planted, Lists]:
    """The stranger and the others, and what the stranger's lists say while there is no victim."""
    with catalog(write=True) as session:
        planted = plant_others(session)
    party = Party(service, STRANGER, planted.keys[STRANGER])
    return planted, {(name, place): words(party, planted, name, COMMANDS[name][place]) for name, place in LISTS}


@pytest.fixture(scope="module")
def planted(before: tuple[Planted, Lists]) -> Iterator[Planted]:
    """The victim with all that it owns; afterwards nothing of it is offered to anybody, so that no schedule looks at it."""
    planted, _ = before
    with catalog(write=True) as session:
        plant_victim(session, planted)
    inbox_bucket().put(f"{VICTIM}/hermes.raw", b"hermes")
    planted.add("inbox", "key", "hermes.raw")
    yield planted
    with catalog(write=True) as session:
        offered = select(Version).where(col(Version.owner).in_((VICTIM, PUBLISHER)), Version.state != VersionState.REJECTED)
        for version in session.exec(offered).all():
            withdraw_version(session, version_id=version.id, scope=WithdrawnFor.ALL, by=Actor(version.owner))


@pytest.fixture(scope="module")
def stranger(service: Service, planted: Planted) -> Party:
    return Party(service, STRANGER, planted.keys[STRANGER])


def verbs() -> set[str]:
    """Every command that the parser knows: `noun verb`, or the noun alone where it has no verbs."""
    nouns = _choices(cli.make_parser())
    return {f"{noun} {verb}".strip() for noun, parser in nouns.items() for verb in _choices(parser) or ("",)}


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return actions[0].choices if actions else {}


def words(party: Party, planted: Planted, name: str, visit: Visit, it: str = "") -> str:
    """What the command prints and its exit code, the subject's id or name no difference."""
    outcome = party.run(*name.split(), *visit.values(planted, it))
    assert outcome.code == visit.code, f"ims {name}: {outcome.answer}"
    told = f"{outcome.status} {json.dumps(outcome.answer)}"
    return told.replace(it, "SUBJECT") if it else told


@contextmanager
def acting(party: Party) -> Iterator[None]:
    """This process has the party's key."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in party.environment.items():
            patch.setenv(name, value)
        yield


def refusal(party: Party, deployment: str, it: str, **parameters: object) -> str:
    """How the flow refuses the party, the subject's id or name no difference."""
    verb = deployment.replace("-", "_")
    flow = getattr(importlib.import_module(f"flows.{verb}"), verb)
    with acting(party), pytest.raises(ImsError) as refused:
        flow(**parameters)
    told = f"{refused.value.code} {refused.value.message}"
    return as_nobody(told.replace(it, "SUBJECT") if it else told)


def some(planted: Planted, visit: Visit) -> list[str]:
    """One subject of each kind: which of them is meant makes a difference to queries alone."""
    return [next(iter(planted.subjects[kind].values())) for kind in visit.about]


def test_every_flow_and_command_is_in_the_table() -> None:
    assert {*FLOWS, *ASKED_ELSEWHERE} == deployment_names()
    assert {*COMMANDS, *OF_THE_HOST} == verbs()


@pytest.mark.parametrize(("name", "place"), LISTS)
def test_list_of_a_stranger_is_as_without_the_victim(
    before: tuple[Planted, Lists], planted: Planted, stranger: Party, name: str, place: int
) -> None:
    told = words(stranger, planted, name, COMMANDS[name][place])
    assert not planted.traced(told)
    if name != "audit list":  # has the stranger's own refused runs by now
        assert told == before[1][name, place]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_tells_a_stranger_nothing(planted: Planted, stranger: Party, name: str) -> None:
    for visit in (visit for visit in COMMANDS[name] if visit.about):
        nothing = as_nobody(words(stranger, planted, name, visit, absent(visit.about[0])))
        for it in some(planted, visit):
            told = words(stranger, planted, name, visit, it)
            assert not planted.traced(told)
            assert as_nobody(told) == nothing


@pytest.mark.parametrize("deployment", sorted(FLOWS))
def test_flow_tells_a_stranger_nothing(planted: Planted, stranger: Party, deployment: str) -> None:
    for visit in FLOWS[deployment]:
        own = {"account": STRANGER}
        it = absent(visit.about[0]) if visit.about else ""
        nothing = refusal(stranger, deployment, it, **visit.parameters(planted, it), **own)
        assert nothing.split()[0] == visit.code
        for it in some(planted, visit):
            assert refusal(stranger, deployment, it, **visit.parameters(planted, it), **own) == nothing


@pytest.mark.parametrize("deployment", sorted(FLOWS))
def test_flow_does_nothing_for_another_account(planted: Planted, stranger: Party, deployment: str) -> None:
    visit = FLOWS[deployment][0]
    it = some(planted, visit)[0] if visit.about else ""
    told = {
        refusal(stranger, deployment, account, **visit.parameters(planted, it), account=account)
        for account in (VICTIM, absent("account"))
    }
    assert [each.split()[0] for each in told] == ["account.key"]


@pytest.mark.parametrize("label", ["in_review", "draft"])
def test_review_takes_no_answer_of_a_stranger(planted: Planted, stranger: Party, label: str) -> None:
    """The run asks who answers; what the form says is an answer of that account's, refused as `ims market review` is."""
    from tasks.reviewing import _why_not

    assert _why_not(STRANGER)
    told = {review_refusal(stranger, version) for version in (planted.subjects["version"][label], absent("version"))}
    assert [each.split()[0] for each in told] == [REVIEWER]


def review_refusal(party: Party, version: str) -> str:
    """How a review's run refuses an answer of the party's."""
    with acting(party), pytest.raises(ImsError) as refused:
        record(version)
    return f"{refused.value.code} {refused.value.message}".replace(version, "SUBJECT")


def record(version: str) -> None:
    """The step of `review-version` that carries an answer to the catalog."""
    from tasks.reviewing import record_answer
    from tasks.sagas import Call, saga

    with saga(Call(kind="review", account=STRANGER, facts={"version": version})) as held:
        record_answer.fn(held, version, Decision.APPROVE, "")


def test_nothing_of_the_victim_was_changed(planted: Planted) -> None:
    with catalog() as session:
        assert not planted.harmed(session)
