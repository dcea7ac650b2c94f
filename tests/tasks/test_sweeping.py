"""Which objects a sweep starts a run for, and what its report says of the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tasks.inboxes import InboxView, State
from tasks.sweeping import AT_ONCE, MAX_RUNS, SweepView, choose, sweep_markdown

MOMENT = datetime(2026, 11, 26, 12, tzinfo=UTC)


def view(key: str, *, account: str = "alice", state: State = State.DUE, age: int = 0, **values: str) -> InboxView:
    modified = MOMENT - timedelta(seconds=age)
    return InboxView(account=account, key=key, size=8, etag="e", modified=modified, state=state, **values)


def test_oldest_are_chosen_first_and_only_what_is_due() -> None:
    others = [view(state.value, state=state) for state in State if state is not State.DUE]
    chosen = choose([*others, view("young"), view("old", age=60)])
    assert [each.key for each in chosen] == ["old", "young"]


def test_one_account_cannot_keep_the_others_waiting() -> None:
    busy = [view(f"busy-{number}", state=State.UNDER_WAY) for number in range(5)]
    flood = [view(f"{number}", age=100) for number in range(AT_ONCE + 10)]
    chosen = choose([*busy, *flood, view("his", account="bob")])
    assert len([each for each in chosen if each.account == "alice"]) == AT_ONCE - 5
    assert [each.key for each in chosen if each.account == "bob"] == ["his"]


def test_one_sweep_starts_a_bounded_number_of_runs() -> None:
    assert len(choose([view("x", account=f"a{number}") for number in range(MAX_RUNS + 5)])) == MAX_RUNS


def test_report_shows_hostile_names_as_code() -> None:
    hostile = view("x`|<img src=x>\n# title", state=State.REFUSED, code="disk.truncated", message="`no` | <b>")
    text = sweep_markdown(SweepView(states={"refused": 3}, started=[], postponed=2, attention=[hostile]), 3)
    (row,) = [line for line in text.splitlines() if "disk.truncated" in line]
    assert row.count("`") == 4
    assert "0 imports started, 2 later" in text
    assert "2 more." in text


def test_report_of_an_empty_inbox_says_so() -> None:
    assert "| empty | 0 |" in sweep_markdown(SweepView(states={}, started=[], postponed=0, attention=[]), 0)
