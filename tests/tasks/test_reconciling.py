"""How the cases of a reconciliation are settled, one by one."""

from __future__ import annotations

from tasks.engine.errors import HostUnavailable
from tasks.findings import Finding
from tasks.reconciling import Case, Wish, settle


def case(subject: str, repair: object = True) -> Case:
    finding = Finding(kind="ecs.state", subject=subject, found="wrong", remedy="Look.")
    if repair is None:
        return Case(finding)

    def act() -> bool:
        if isinstance(repair, Exception):
            raise repair
        return bool(repair)

    return Case(finding, act)


def test_failure_of_one_is_told_and_stops_no_other() -> None:
    cases = [case("1", HostUnavailable("guest", "no answer")), case("2", OSError("full")), case("3")]
    told = {each.subject: (each.action, each.remedy) for each in settle(Wish(), cases)}
    assert told["1"] == ("reported", "host.guest: no answer")
    assert told["2"][0] == "reported"
    assert told["3"] == ("repaired", "Look.")


def test_what_is_right_again_is_no_finding() -> None:
    assert settle(Wish(), [case("1", False)]) == []


def test_dry_run_calls_no_repair() -> None:
    told = settle(Wish(dry_run=True), [case("1", AssertionError("called")), case("2", None)])
    assert [each.action for each in told] == ["would repair", "reported"]
