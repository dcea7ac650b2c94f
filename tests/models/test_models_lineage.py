"""The tree of an image: who sees what of it, what is left out, and its bounds, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from catalog_rows import Catalog
from sqlmodel import Session

from models import lineage
from models.ecs import Readiness, delete_ecs, mark_ready
from models.exceptions import NotVisible
from models.gate import unset_public
from models.images import delete_image
from models.lineage import LineageNode, lineage_of
from models.tables import Ecs, Image, utc_now
from models.trail import Actor
from models.vocabulary import BootProof

ADMIN, ALICE = Actor("admin"), Actor("alice")


class Family:
    """Short ways to generations in a catalog."""

    def __init__(self, catalog: Catalog, session: Session) -> None:
        self.catalog, self.session = catalog, session

    def image(self, name: str, parent: Image | None = None, *, source: Ecs | None = None, owner: str = "alice") -> Image:
        """An active image; with `parent`, as if captured from an ECS of it."""
        image = self.catalog.active(self.session, name, owner=owner)
        image.parent_image_id = parent.id if parent else None
        image.source_ecs_id = source.id if source else None
        self.session.flush()
        return image

    def ecs(self, name: str, image: Image, *, owner: str = "alice") -> Ecs:
        ecs = self.catalog.building(self.session, image, owner=owner, name=name)
        readiness = Readiness(ready_by=BootProof.LOGIN, seconds_to_ready=1, accelerator="tcg")
        mark_ready(self.session, ecs=ecs, readiness=readiness, by=Actor(owner))
        return ecs

    def public(self, image: Image, *, public: bool = True) -> None:
        if public:
            self.catalog.flag_public(self.session, image)
        else:
            unset_public(self.session, image_id=image.id, by=ADMIN)

    def delete(self, *images: Image) -> None:
        for image in images:
            delete_image(self.session, image_id=image.id, by=Actor(image.owner))

    def tree(self, image: Image, account: str = "alice") -> str:
        return outline(lineage_of(self.session, account=account, image_id=image.id))


def outline(node: LineageNode) -> str:
    """A tree in one line: name, or state of what has none, its ECSs in brackets, its children in parentheses."""
    ecs = f"[{' '.join(ecs.name for ecs in node.ecs)}]" if node.ecs else ""
    children = f"({' '.join(map(outline, node.children))})" if node.children else ""
    return (node.name or node.state) + ecs + children


@pytest.fixture
def family(catalog: Catalog) -> Iterator[Family]:
    with catalog.write() as session:
        yield Family(catalog, session)


def test_tree_is_whole_whichever_image_is_asked(family: Family) -> None:
    base = family.image("base")
    web = family.image("web", base, source=family.ecs("builder", base))
    images = [base, web, family.image("db", base), family.image("web-2", web), family.image("web-3", web)]
    family.ecs("run-1", web)
    family.ecs("run-2", web)
    family.image("stranger")
    for image in images:
        assert family.tree(image) == "base[builder](web[run-1 run-2](web-2 web-3) db)"


def test_node_says_where_its_image_came_from(family: Family) -> None:
    base = family.image("base")
    builder = family.ecs("builder", base)
    web = family.image("web", base, source=builder)
    delete_ecs(family.session, ecs=builder, by=ALICE)
    node = lineage_of(family.session, account="alice", image_id=base.id).children[0]
    assert (node.id, node.state, node.type, node.owner) == (web.id, "active", "private", "alice")
    assert (node.parent_image_id, node.source_ecs_id, node.source_ecs_name) == (base.id, builder.id, "builder")
    assert (node.ecs, node.more, node.more_ecs) == ((), 0, 0)


def test_children_are_oldest_first(family: Family) -> None:
    base = family.image("base")
    for age in (1, 3, 2):
        family.image(f"day-{age}", base).created_at = utc_now() - timedelta(days=age)
    family.session.flush()
    assert family.tree(base) == "base(day-3 day-2 day-1)"


def test_stranger_is_told_that_there_is_no_such_image(family: Family) -> None:
    base = family.image("base")
    child = family.image("child", base)
    family.delete(child)
    for account, image in (("bob", base), ("bob", child), ("alice", child)):
        with pytest.raises(NotVisible):
            family.tree(image, account)


def test_children_and_ecs_of_other_accounts_are_absent(family: Family) -> None:
    base = family.image("base", owner="admin")
    family.public(base)
    family.image("alices", base)
    bobs = family.image("bobs", base, owner="bob")
    family.image("alices-of-bobs", bobs)
    family.ecs("alice-1", base)
    family.ecs("bob-1", base, owner="bob")
    family.public(family.image("admins", base, owner="admin"))
    assert family.tree(base) == "base[alice-1](alices)"
    assert family.tree(base, "bob") == "base[bob-1](bobs)"
    assert lineage_of(family.session, account="alice", image_id=base.id).more == 0


def test_ancestor_that_is_not_seen_has_an_id_alone(family: Family) -> None:
    base = family.image("base", owner="admin")
    family.public(base)
    child = family.image("child", base, source=family.ecs("mine", base))
    family.image("sibling", base, owner="bob")
    family.public(base, public=False)
    top = lineage_of(family.session, account="alice", image_id=child.id)
    assert outline(top) == "hidden[mine](child)"
    assert top.id == base.id
    assert (top.name, top.type, top.owner, top.parent_image_id, top.source_ecs_id, top.more) == ("", "", "", None, None, 0)


def test_ancestors_of_an_image_of_somebody_else_are_not_followed(family: Family) -> None:
    secret = family.image("secret", owner="admin")
    base = family.image("base", secret, source=family.ecs("builder", secret, owner="admin"), owner="admin")
    family.public(base)
    child = family.image("child", base)
    top = lineage_of(family.session, account="alice", image_id=child.id)
    assert outline(top) == "base(child)"
    assert (top.type, top.parent_image_id, top.source_ecs_id) == ("public", None, None)
    assert family.tree(base, "admin") == "secret[builder](base)"


def test_source_ecs_of_another_account_has_no_name(family: Family) -> None:
    base = family.image("base", owner="admin")
    family.public(base)
    foreign = family.ecs("foreign", base, owner="bob")
    child = family.image("child", base, source=foreign)
    node = lineage_of(family.session, account="alice", image_id=child.id).children[0]
    assert (node.source_ecs_id, node.source_ecs_name) == (foreign.id, "")


def test_deleted_image_stays_while_something_came_from_it(family: Family) -> None:
    base = family.image("base")
    kept, running, barren, dead = (family.image(name, base) for name in ("kept", "running", "barren", "dead"))
    family.image("grandchild", family.image("between", kept))
    family.ecs("run", running)
    family.delete(kept, running, barren, family.image("dead-too", dead), dead)
    assert family.tree(base) == "base(kept(between(grandchild)) running[run])"
    assert lineage_of(family.session, account="alice", image_id=base.id).children[0].state == "deleted"


def test_ecs_that_is_deleted_or_of_others_keeps_no_deleted_image(family: Family) -> None:
    base = family.image("base", owner="admin")
    family.public(base)
    child = family.image("child", base, owner="admin")
    family.public(child)
    family.ecs("bob-1", child, owner="bob")
    delete_ecs(family.session, ecs=family.ecs("admin-1", child, owner="admin"), by=ADMIN)
    family.delete(child)
    assert family.tree(base, "admin") == "base"


def test_images_beyond_the_bound_are_counted_and_the_path_is_kept(family: Family) -> None:
    base = family.image("base")
    for number in range(5):
        last = family.image(f"child-{number}", base)
    family.image("of-bob", base, owner="bob")
    top = lineage_of(family.session, account="alice", image_id=last.id, limit=3)
    assert (outline(top), top.more) == ("base(child-0 child-4)", 3)


def test_ecs_beyond_the_bound_are_counted_by_image(family: Family) -> None:
    base = family.image("base")
    child = family.image("child", base)
    for number in range(4):
        family.ecs(f"run-{number}", base)
    family.ecs("other", child)
    top = lineage_of(family.session, account="alice", image_id=base.id, limit=2)
    assert (outline(top), top.more_ecs) == ("base[run-0 run-1](child[other])", 2)


def test_generations_are_bounded_both_ways(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "GENERATIONS_ABOVE", 2)
    monkeypatch.setattr(lineage, "GENERATIONS_BELOW", 3)
    images = [family.image("0")]
    for number in range(1, 6):
        images.append(family.image(str(number), images[-1]))
    assert family.tree(images[0]) == "0(1(2(3)))"
    assert lineage_of(family.session, account="alice", image_id=images[3].id).parent_image_id == images[0].id
    assert family.tree(images[3]) == "1(2(3(4)))"
