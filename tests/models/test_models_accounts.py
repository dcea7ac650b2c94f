"""Accounts and their keys, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, race
from sqlmodel import select

from models.accounts import (
    AccountChange,
    Limits,
    change_account,
    create_account,
    require_operator,
    require_reviewer,
)
from models.exceptions import FieldInvalid, NameInvalid, NameTaken, NotAuthenticated, NotVisible, RoleNeeded
from models.keys import MAX_KEYS, add_key, authenticate, list_keys, revoke_keys, rotate_key
from models.tables import Account, ApiKey, utc_now
from models.trail import Actor, list_audit

ADMIN = Actor("admin")


def test_key_proves_its_account(catalog: Catalog) -> None:
    with catalog.write() as session:
        key = catalog.account(session, "carol")
    assert key.startswith("ims_")
    with catalog.read() as session:
        assert authenticate(session, name="carol", key=key).name == "carol"


@pytest.mark.parametrize("name", ["alice", "nobody", "Carol", "'; --", ""])
@pytest.mark.parametrize("change", ["", "ims_", "ims_\udcff", "\x00"])
def test_any_other_key_or_name_proves_nothing(catalog: Catalog, name: str, change: str) -> None:
    with pytest.raises(NotAuthenticated), catalog.read() as session:
        authenticate(session, name=name, key=change)


def test_key_of_another_account_proves_nothing(catalog: Catalog) -> None:
    with catalog.write() as session:
        key = catalog.account(session, "carol")
    with pytest.raises(NotAuthenticated), catalog.read() as session:
        authenticate(session, name="alice", key=key)


def test_only_a_salted_hash_of_the_key_is_kept(catalog: Catalog) -> None:
    with catalog.write() as session:
        created = create_account(session, name="carol", by=ADMIN)
    assert created.api_key not in repr(created.account.model_dump())
    with catalog.read() as session:
        keys = session.exec(select(ApiKey)).all()
    assert len({key.salt for key in keys}) == len(keys) == 4
    assert not any(key.hash.hex() in repr(key) or created.api_key.encode() in key.hash for key in keys)


def test_rotated_key_replaces_the_old_one(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = catalog.account(session, "carol")
        new = rotate_key(session, name="carol", by=ADMIN)
        authenticate(session, name="carol", key=new)
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=old)


def test_rotated_key_lives_on_for_its_grace_and_no_longer(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = catalog.account(session, "carol")
        new = rotate_key(session, name="carol", by=ADMIN, grace_hours=2)
        assert {authenticate(session, name="carol", key=key).name for key in (old, new)} == {"carol"}
        for key in list_keys(session, account="carol"):
            if key.expires_at:
                key.expires_at = utc_now()
        session.flush()
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=old)
        authenticate(session, name="carol", key=new)


def test_rotation_at_once_ends_an_earlier_grace(catalog: Catalog) -> None:
    with catalog.write() as session:
        first = catalog.account(session, "carol")
        rotate_key(session, name="carol", by=ADMIN, grace_hours=24)
        rotate_key(session, name="carol", by=ADMIN)
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=first)


@pytest.mark.parametrize("hours", [-1, 24 * 91])
def test_grace_out_of_bounds_is_refused(catalog: Catalog, hours: int) -> None:
    with pytest.raises(FieldInvalid), catalog.write() as session:
        rotate_key(session, name="alice", by=ADMIN, grace_hours=hours)


def test_revoked_keys_prove_nothing_until_a_new_one_is_made(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = catalog.account(session, "carol")
        assert revoke_keys(session, name="carol", by=ADMIN) == 1
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=old)
        assert authenticate(session, name="carol", key=rotate_key(session, name="carol", by=ADMIN)).name == "carol"


def test_one_key_of_two_is_revoked(catalog: Catalog) -> None:
    with catalog.write() as session:
        first = catalog.account(session, "carol")
        second = add_key(session, account="carol")
        newest = list_keys(session, account="carol")[0]
        assert revoke_keys(session, name="carol", key_id=newest.id, by=ADMIN) == 1
        authenticate(session, name="carol", key=first)
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=second)
        with pytest.raises(NotVisible):
            revoke_keys(session, name="carol", key_id=newest.id, by=ADMIN)


def test_account_has_a_bounded_number_of_keys(catalog: Catalog) -> None:
    with catalog.write() as session:
        oldest = catalog.account(session, "carol")
        keys = [add_key(session, account="carol") for _ in range(MAX_KEYS)]
        assert len(list_keys(session, account="carol")) == MAX_KEYS
        authenticate(session, name="carol", key=keys[0])
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=oldest)


def test_roles_and_limits_are_changed_one_by_one(catalog: Catalog) -> None:
    with catalog.write() as session:
        with pytest.raises(RoleNeeded, match="reviewer"):
            require_reviewer(session, name="alice", step="review")
        change_account(session, name="alice", change=AccountChange(reviewer=True, max_images=3), by=ADMIN)
        alice = require_reviewer(session, name="alice", step="review")
        assert (alice.operator, alice.max_images, alice.max_creations) == (False, 3, 40)
        with pytest.raises(FieldInvalid):
            change_account(session, name="alice", change=AccountChange(max_bytes=-1), by=ADMIN)


@pytest.mark.parametrize("name", ["", "Carol", "-carol", "carol-", "c/d", "..", "c" * 64, "carol\n"])
def test_name_against_the_rule_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(NameInvalid), catalog.write() as session:
        create_account(session, name=name, by=ADMIN)


def test_name_in_use_is_refused_and_the_session_lives_on(catalog: Catalog) -> None:
    with catalog.write() as session:
        with pytest.raises(NameTaken):
            create_account(session, name="alice", by=ADMIN)
        create_account(session, name="carol", by=ADMIN)


def test_racing_creations_of_one_name_have_one_winner(catalog: Catalog) -> None:
    def create() -> None:
        with catalog.write() as session:
            create_account(session, name="carol", by=ADMIN)

    refusals = race([create] * 6)
    assert refusals.count(None) == 1
    assert sum(isinstance(refusal, NameTaken) for refusal in refusals) == 5


def test_negative_limit_is_refused(catalog: Catalog) -> None:
    with pytest.raises(FieldInvalid), catalog.write() as session:
        create_account(session, name="carol", by=ADMIN, limits=Limits(max_images=-1))


def test_only_an_operator_is_one(catalog: Catalog) -> None:
    with catalog.read() as session:
        assert require_operator(session, name="admin", step="look").operator
        with pytest.raises(RoleNeeded):
            require_operator(session, name="alice", step="look")
        with pytest.raises(NotVisible):
            require_operator(session, name="nobody", step="look")


def test_creation_and_renewal_are_on_the_trail_without_the_key(catalog: Catalog) -> None:
    with catalog.write() as session:
        key = catalog.account(session, "carol")
        rotate_key(session, name="carol", by=ADMIN)
    with catalog.read() as session:
        trail = list_audit(session, account="carol")
        assert [(row.who, row.new) for row in trail] == [("admin", "key rotated"), ("admin", "created")]
        assert key not in repr([row.model_dump() for row in trail])
        assert session.get_one(Account, "carol").operator is False
