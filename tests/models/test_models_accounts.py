"""Accounts and their keys, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, race

from models.accounts import Limits, authenticate, create_account, list_accounts, renew_key, require_operator
from models.exceptions import FieldInvalid, NameInvalid, NameTaken, NotAuthenticated, NotVisible, OperatorOnly
from models.tables import Account
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
    assert "key_hash" not in repr(created.account)
    with catalog.read() as session:
        assert len({account.key_salt for account in list_accounts(session)}) == 4


def test_renewed_key_replaces_the_old_one(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = catalog.account(session, "carol")
        new = renew_key(session, name="carol", by=ADMIN)
        authenticate(session, name="carol", key=new)
        with pytest.raises(NotAuthenticated):
            authenticate(session, name="carol", key=old)


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
        with pytest.raises(OperatorOnly):
            require_operator(session, name="alice", step="look")
        with pytest.raises(NotVisible):
            require_operator(session, name="nobody", step="look")


def test_creation_and_renewal_are_on_the_trail_without_the_key(catalog: Catalog) -> None:
    with catalog.write() as session:
        key = catalog.account(session, "carol")
        renew_key(session, name="carol", by=ADMIN)
    with catalog.read() as session:
        trail = list_audit(session, account="carol")
        assert [(row.who, row.new) for row in trail] == [("admin", "key renewed"), ("admin", "created")]
        assert key not in repr([row.model_dump() for row in trail])
        assert session.get_one(Account, "carol").operator is False
