"""What the market machine believes: who sees and launches what, and why; written from the rules and not from the queries.

Time is the number of the step (`tick`); what was moved into the past by hand is a flag.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from models.quotas import Usage

ACCOUNTS = ("alice", "bob", "carol", "pat", "rita", "olga")
"""An owner, two who are given things, a publisher, the reviewer, the operator; whoever was given nothing is a stranger."""
REVIEWER, OPERATOR = "rita", "olga"
MAX_IMAGES, MAX_CREATIONS, MAX_BYTES = 5, 2, 60
UNFINISHED = ("queued", "transferring", "verifying")
UNDER_WAY = ("draft", "scanning", "in_review")


@dataclass(slots=True)
class ImageBelief:
    """`order` is its place in lists; `system` says whether it has a system disk, `disks` how many it has in all."""

    id: str
    owner: str
    order: tuple[datetime, str]
    system: bool
    disks: int
    held: int
    parent: str | None = None
    licences: frozenset[str] = frozenset()
    state: str = "queued"
    public: bool = False
    protected: bool = False
    hidden: bool = False
    deprecated: bool = False
    revoked_by: str | None = None

    @property
    def publishable(self) -> bool:
        return self.state == "active" and not self.licences and self.system and self.disks == 1


@dataclass(slots=True)
class ShareBelief:
    state: str = "pending"
    ended: bool = False


@dataclass(slots=True)
class VersionBelief:
    id: str
    listing: str
    owner: str
    image: str
    number: int
    name: str
    licence: str
    text: str
    categories: tuple[str, ...]
    state: str = "draft"
    reviewed: bool = False
    overdue: bool = False
    decided_at: datetime | None = None
    closed_to: str | None = None
    closed_at: int = 0
    frozen: dict[str, object] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        """Whether its image must stay."""
        return self.state in (*UNDER_WAY, "listed") or (self.state == "withdrawn" and self.closed_to == "new")


@dataclass(slots=True)
class EcsBelief:
    id: str
    owner: str
    image: str
    system: bool
    disks: int
    licences: frozenset[str]
    state: str = "building"


@dataclass(slots=True)
class Market:
    """All that is believed of one catalog. Keys: shares (image, account), subscriptions (account, listing, licence)."""

    images: dict[str, ImageBelief] = field(default_factory=dict)
    shares: dict[tuple[str, str], ShareBelief] = field(default_factory=dict)
    listings: dict[str, tuple[str, str]] = field(default_factory=dict)
    versions: dict[str, VersionBelief] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    ecs: dict[str, EcsBelief] = field(default_factory=dict)
    tick: int = 0

    def owns(self, account: str, image: ImageBelief) -> bool:
        return image.owner == account and image.state != "deleted"

    def covering(self, account: str, image: ImageBelief) -> frozenset[str]:
        """Versions of the image that a subscription opens to the account."""
        return frozenset(v.id for v in self.versions.values() if v.image == image.id and self._is_open(account, v))

    def _is_open(self, account: str, version: VersionBelief) -> bool:
        since = self.subscriptions.get((account, version.listing, version.licence))
        if since is None:
            return False
        before = version.state == "withdrawn" and version.closed_to == "new" and since < version.closed_at
        return version.state == "listed" or before

    def shared(self, account: str, image: ImageBelief) -> bool:
        share = self.shares.get((image.id, account))
        return share is not None and share.state == "accepted" and not share.ended

    def kind(self, account: str, image: ImageBelief) -> str | None:
        """The image's type to the account, None where it does not see it."""
        own = self.owns(account, image)
        if not own and image.state != "active":
            return None
        if image.public:
            return "public"
        if own:
            return "private"
        if self.shared(account, image):
            return "shared"
        return "marketplace" if self.covering(account, image) else None

    def launches(self, account: str, image: ImageBelief) -> bool:
        return image.state == "active" and image.system and self.kind(account, image) is not None

    def binding(self, account: str, image: ImageBelief) -> frozenset[str]:
        """The licences that bind what the account launches from the image."""
        free = image.public or image.owner == account
        return image.licences | (frozenset() if free else self.covering(account, image))

    def needed(self, image: ImageBelief) -> bool:
        return any(version.needed for version in self.versions.values() if version.image == image.id)

    def built_from(self, image: ImageBelief) -> bool:
        return any(ecs.image == image.id and ecs.state == "building" for ecs in self.ecs.values())

    def listed(self, kind: str | None, account: str, *, everything: bool = True) -> list[str]:
        """What a list of that type says, in its order."""
        rows = [image for image in self.images.values() if everything or not (image.hidden or image.deprecated)]
        seen = [(image.order, image.id) for image in rows if (is_a := self.kind(account, image)) and kind in (None, is_a)]
        return [image_id for _, image_id in sorted(seen, reverse=True)]

    def offers(self, account: str, state: str) -> list[str]:
        mine = [
            self.images[image_id].order
            for (image_id, whose), share in self.shares.items()
            if whose == account and share.state == state and not share.ended and self.images[image_id].state == "active"
        ]
        return [image_id for _, image_id in sorted(mine, reverse=True)]

    def shown(self, listing: str) -> VersionBelief | None:
        """What everybody reads of a listing: its newest listed version."""
        rows = [version for version in self.versions.values() if (version.listing, version.state) == (listing, "listed")]
        return max(rows, key=lambda version: version.number, default=None)

    def market(self, search: str = "", category: str | None = None) -> list[str]:
        """Listings that a search finds, in order; every word must begin one of what is told."""
        asked = search.lower().split()
        found = []
        for listing, (owner, title) in self.listings.items():
            version = self.shown(listing)
            if version is None or (category is not None and category not in version.categories):
                continue
            told = re.findall("[a-z0-9]+", " ".join((title, owner, version.text, version.name, *version.categories)).lower())
            if all(any(word.startswith(start) for word in told) for start in asked):
                found.append((version.decided_at, listing))
        return [listing for _, listing in sorted(found, reverse=True)]

    def usage(self, account: str) -> Usage:
        rows = [image for image in self.images.values() if self.owns(account, image)]
        return Usage(len(rows), sum(image.held for image in rows), sum(image.state in UNFINISHED for image in rows))

    def has_room(self, account: str, size: int) -> bool:
        used = self.usage(account)
        return used.images < MAX_IMAGES and used.creations < MAX_CREATIONS and used.bytes + size <= MAX_BYTES

    def below(self, image: ImageBelief) -> set[str]:
        """The image and all that descends from it, whoever made it."""
        found: Collection[str] = {image.id}
        while more := {row.id for row in self.images.values() if row.parent in found} - set(found):
            found = {*found, *more}
        return set(found)

    def revocable(self, account: str, image: ImageBelief, *, descendants: bool) -> set[str]:
        wanted = self.below(image) if descendants else {image.id}
        rows = [self.images[image_id] for image_id in wanted]
        return {row.id for row in rows if row.state != "deleted" and (account == OPERATOR or row.owner == account)}
