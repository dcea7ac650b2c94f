"""Accounts by command: keys that are shown once, rotated and revoked; roles and limits that an operator sets."""

from __future__ import annotations

import pytest
from commands import Service
from parties import Party

from models.keys import list_keys
from models.tables import utc_now
from tasks.resources import catalog

pytestmark = pytest.mark.server


@pytest.fixture
def party(service: Service, request: pytest.FixtureRequest) -> Party:
    return Party.join(service, f"keys-{abs(hash(request.node.name)) % 10**8}")


def test_rotated_key_works_and_the_old_one_does_not(service: Service, party: Party) -> None:
    new = Party(service, party.name, party.ims("account", "rotate")["api_key"])
    assert party.refused("image", "list") == "account.key"
    assert new.ims("image", "list")["images"] == []


def test_old_key_lives_on_for_its_grace(service: Service, party: Party) -> None:
    new = Party(service, party.name, party.ims("account", "rotate", "--grace-hours", "1")["api_key"])
    assert party.ims("image", "list") == new.ims("image", "list")
    ends = [key["expires_at"] for key in new.ims("account", "keys")["keys"]]
    assert [bool(end) for end in ends] == [False, True]
    with catalog(write=True) as session:
        old = list_keys(session, account=party.name)[1]
        old.expires_at = utc_now()
        session.add(old)
    assert party.refused("image", "list") == "account.key"


def test_revoked_account_is_let_in_again_by_an_operator(service: Service, party: Party) -> None:
    assert party.ims("account", "revoke") == {"name": party.name, "revoked": 1}
    assert party.refused("account", "show") == "account.key"
    again = Party(service, party.name, service.ims("account", "rotate", party.name)["api_key"])
    assert again.ims("account", "show")["used"] == {"images": 0, "bytes": 0, "creations": 0}


def test_keys_of_others_are_nobodys_business(service: Service, party: Party) -> None:
    for command in (("keys", "admin"), ("rotate", "admin"), ("revoke", "admin"), ("show", "admin"), ("set", "admin")):
        assert party.refused("account", *command) == "account.operator"
    assert party.refused("account", "create", "friend") == "account.operator"


def test_operator_sets_roles_and_limits(service: Service, party: Party) -> None:
    assert party.refused("market", "reviews") == "account.reviewer"
    shown = service.ims("account", "set", party.name, "--reviewer", "--max-images", "0")
    assert (shown["reviewer"], shown["operator"], shown["max_images"]) == (True, False, 0)
    assert "reviews" in party.ims("market", "reviews")
    assert service.refused("account", "set", party.name, "--max-images", "-1") == "request.max_images"
    service.ims("account", "set", party.name, "--no-reviewer")
    assert party.refused("market", "reviews") == "account.reviewer"


def test_no_key_is_ever_on_the_trail(service: Service, party: Party) -> None:
    key = party.ims("account", "rotate")["api_key"]
    trail = Party(service, party.name, key).ims("audit", "list")["audit"]
    assert [row["new"] for row in trail] == ["key rotated", "created"]
    assert key not in str(trail)


def test_run_handed_to_a_worker_is_proved_first(service: Service, party: Party) -> None:
    stolen = {"IMS_ACCOUNT": "admin", "IMS_API_KEY": party.key}
    assert service.refused("image", "scan", "any", "--detach", **stolen) == "account.key"
