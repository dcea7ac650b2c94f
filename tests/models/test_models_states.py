"""Transitions: the table, the compare-and-set and its trail, on both databases."""

from __future__ import annotations

from itertools import pairwise

import pytest
from catalog_rows import Catalog, race

from models.exceptions import TransitionRefused
from models.images import own_image
from models.states import ECS_TRANSITIONS, IMAGE_TRANSITIONS, OPERATION_TRANSITIONS, Table, transition
from models.tables import Image
from models.trail import Actor, list_audit
from models.vocabulary import EcsState, ImageState, OperationState

ALICE = Actor("alice", operation_id="op", flow_run_id="run")


@pytest.mark.parametrize(
    ("table", "states"),
    [(IMAGE_TRANSITIONS, ImageState), (ECS_TRANSITIONS, EcsState), (OPERATION_TRANSITIONS, OperationState)],
)
def test_table_names_every_state_and_ends_somewhere(table: Table, states: type) -> None:
    assert set(table) == set(states)
    assert [state for state, after in table.items() if not after]


def test_lifecycle_of_the_design_is_allowed() -> None:
    walk = ["queued", "transferring", "verifying", "active", "deactivated", "active", "deleted"]
    assert all(new in IMAGE_TRANSITIONS[ImageState(old)] for old, new in pairwise(walk))


def test_transition_writes_state_values_and_trail(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        values = {"error_code": "disk.encrypted", "error_message": "no"}
        transition(session, subject=image, new=ImageState.ERROR, by=ALICE, values=values)
    with catalog.read() as session:
        assert session.get_one(Image, image.id).state is ImageState.ERROR
        newest, first = list_audit(session, account="alice", subject_id=image.id)
    assert (newest.old, newest.new, newest.detail) == ("queued", "error", {"error_code": "disk.encrypted"})
    assert (newest.who, newest.operation_id, newest.flow_run_id) == ("alice", "op", "run")
    assert (first.old, first.new, first.detail) == (None, "queued", {"name": "web"})


def test_transition_not_in_the_table_is_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        with pytest.raises(TransitionRefused) as caught:
            transition(session, subject=image, new=ImageState.ACTIVE, by=ALICE)
    assert (caught.value.kind, caught.value.old, caught.value.new) == ("image", "queued", "active")


def test_transition_from_a_state_left_since_is_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        stale = catalog.queued(session)
    with catalog.write() as session:
        current = own_image(session, account="alice", image_id=stale.id)
        transition(session, subject=current, new=ImageState.TRANSFERRING, by=ALICE)
    with catalog.write() as session:
        session.add(stale)
        with pytest.raises(TransitionRefused):
            transition(session, subject=stale, new=ImageState.TRANSFERRING, by=ALICE)


def test_racing_transitions_have_one_winner(catalog: Catalog) -> None:
    with catalog.write() as session:
        image_id = catalog.queued(session).id

    def move() -> None:
        with catalog.write() as session:
            image = session.get_one(Image, image_id)
            transition(session, subject=image, new=ImageState.TRANSFERRING, by=ALICE)

    refusals = race([move] * 8)
    assert refusals.count(None) == 1
    assert sum(isinstance(refusal, TransitionRefused) for refusal in refusals) == 7
    with catalog.read() as session:
        assert len(list_audit(session, account="alice", subject_id=image_id)) == 2


def test_racing_different_transitions_leave_one_story(catalog: Catalog) -> None:
    with catalog.write() as session:
        image_id = catalog.queued(session).id

    def move(new: ImageState) -> None:
        with catalog.write() as session:
            transition(session, subject=session.get_one(Image, image_id), new=new, by=ALICE)

    race([lambda: move(ImageState.TRANSFERRING), lambda: move(ImageState.ERROR)] * 4)
    with catalog.read() as session:
        trail = [(row.old, row.new) for row in list_audit(session, account="alice", subject_id=image_id)][::-1]
    assert all(before[1] == after[0] for before, after in pairwise(trail))
