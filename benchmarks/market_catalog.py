"""A catalog as large as its lists are promised for, made in seconds: what its rows are. How a database takes them is
`benchmarks.market_filling`.

Rows are the same in every run. Values are what both databases take as they are: text, numbers, None.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from models.search import category_word
from models.tables import utc_now

Value = str | int | None
Row = tuple[Value, ...]

ACCOUNTS, IMAGES, MEMBERS, LISTINGS, VERSIONS = 200, 100_000, 1_000_000, 20_000, 40_000
PUBLIC = 2_000
HEAVY, AVERAGE, LIGHT = "account-000", "account-100", "account-199"
"""With 20,000 accepted shares, 5,000 images and 2,000 subscriptions; like nearly all others; with nothing at all."""
HEAVY_SHARES, HEAVY_IMAGES, HEAVY_SUBSCRIPTIONS = 20_000, 5_000, 2_000
SUBSCRIPTIONS = 50
SHARES = 10
"""Of an image, beside those of the heavy account."""
COMMON_NAME, RARE_NAME = "golden", "image-54321"
COMMON_WORD, RARE_WORD = "linux", "zanzibar"
CATEGORIES = ("database", "web", "security", "desktop", "storage", "network", "monitoring", "ci")
WORDS = 5_000
LICENCE, PROSE = "You may use it. " * 60, "It does what it says. " * 20
CONSOLE = json.dumps({"console": "login: " * 50})
LOGO = "89504e470d0a1a0a" + "00" * 4_000


@dataclass(frozen=True, slots=True)
class MarketImage:
    """What other rows need of an image's."""

    number: int
    id: str
    owner: int
    public: bool
    state: str
    created_at: str


@dataclass(frozen=True, slots=True)
class MarketVersion:
    """What other rows need of a version's."""

    id: str
    listing: int
    image: MarketImage
    number: int
    state: str
    licence: int


class MarketCatalog:
    """All rows, by table."""

    def __init__(self) -> None:
        self.random = random.Random(20_260_101)
        self.now = utc_now()
        self.past, self.future = self._time(days=-2), self._time(days=200)

    def account(self) -> Iterator[Row]:
        for number in range(ACCOUNTS):
            yield (account(number), int(number == 1), int(number == 1), 10**6, 40, 1 << 60, self.past)

    def image(self) -> Iterator[Row]:
        for image in self.images:
            number = image.number
            name = COMMON_NAME if number % 100 == 7 else f"image-{number}"
            deprecated = self.past if number % 33 == 5 else None
            digest = digest_of(number) if image.state in ("active", "deactivated", "deleted") else None
            told = ("[]", "{}", int(image.public), 0, int(number % 50 == 3), deprecated, digest, "[]", "upload", "{}")
            guest = ("{}", "{}", "linux", "debian", "12", "x86_64", "agent", CONSOLE)
            times = (image.created_at, image.created_at, self.past if image.state == "deleted" else None)
            yield (image.id, account(image.owner), name, image.state, "An image.", *told, *guest, 2, 512, 1 << 30, *times)

    def disk(self) -> Iterator[Row]:
        for image in self.images:
            yield (image.id, 0, "system", 2 << 30, digest_of(image.number), 1 << 30, 1 << 29, 1 << 20)

    def member(self) -> Iterator[Row]:
        """In the order of the images' ids, which the databases take fastest."""
        private = [image for image in self.images if not image.public]
        foreign = [image.number for image in private if image.owner != 0 and image.state == "active"]
        heavy = set(foreign[:: len(foreign) // HEAVY_SHARES][:HEAVY_SHARES])
        serial = 0
        for image in sorted(private, key=lambda image: image.id):
            if image.number in heavy:
                serial += 1
                yield self._member(image, serial, member=0, state="accepted", expires=None)
            for share in range(SHARES):
                serial += 1
                offset = 1 + (image.number * 7 + share * 19) % (ACCOUNTS - 3)
                member = 1 + (image.owner - 1 + offset) % (ACCOUNTS - 2)
                state = ("accepted", "accepted", "pending", "accepted", "rejected")[(serial * 7 // 3) % 5]
                expires = self.past if serial % 21 == 0 else self.future if serial % 21 < 5 else None
                yield self._member(image, serial, member=member, state=state, expires=expires)

    def listing(self) -> Iterator[Row]:
        newest = {version.listing: version for version in self.versions if version.state == "listed"}
        for number in range(LISTINGS):
            shown = newest.get(number)
            listed_at = self._time(minutes=-2 * number) if shown else None
            yield (
                listing_id(number),
                account(publisher(number)),
                f"Product {number}",
                shown.id if shown else None,
                listed_at,
                self.past,
                self.past,
            )

    def version(self) -> Iterator[Row]:
        for version in self.versions:
            listing, state = version.listing, version.state
            withdrawn = ("new" if listing % 2 else "all", self.past) if state == "withdrawn" else (None, None)
            decided = self._time(minutes=-2 * listing) if state in ("listed", "withdrawn", "rejected") else None
            review = self.future if state == "in_review" else None
            logo = LOGO if version.number == 1 and listing % 4 == 0 else None
            whose = (version.id, listing_id(listing), account(publisher(listing)), version.number, f"1.{version.number}", state)
            image = (version.image.id, version.image.created_at, digest_of(version.image.number))
            said = ("A product.", PROSE, json.dumps(categories_of(listing)), "help@example.com", LICENCE)
            yield (
                *whose,
                *image,
                *said,
                licence_of(version.licence),
                logo,
                review,
                "",
                decided,
                *withdrawn,
                self.past,
                self.past,
            )

    def listing_word(self) -> Iterator[Row]:
        shown = {version.listing for version in self.versions if version.state == "listed"}
        for listing in sorted(shown):
            categories = categories_of(listing)
            words = {COMMON_WORD, "product", str(listing), "account", f"{publisher(listing):03d}", "debian", "12", *categories}
            words |= {category_word(category) for category in categories}
            words |= {f"word{int(WORDS ** self.random.random()):04d}" for _ in range(8)}  # Zipf: the first ones are frequent
            words |= {RARE_WORD} if listing % 7_000 == 11 else set()
            for word in sorted(words):
                yield (word, listing_id(listing))

    def subscription(self) -> Iterator[Row]:
        first: dict[int, MarketVersion] = {}
        for version in self.versions:
            first.setdefault(version.listing, version)
        for number in range(ACCOUNTS - 1):
            count = {0: HEAVY_SUBSCRIPTIONS, 1: HEAVY_SUBSCRIPTIONS // 2}.get(number, SUBSCRIPTIONS)
            for place in range(count):
                version = first[(number * 97 + place * 3) % LISTINGS]
                accepted = self._time(days=-10, seconds=-place)
                yield (account(number), listing_id(version.listing), licence_of(version.licence), version.id, accepted)

    @cached_property
    def images(self) -> list[MarketImage]:
        """The oldest first; those that versions are made of are every account's from number 1 on."""
        states = ["active"] * 90 + ["deleted"] * 3 + ["deactivated"] * 3 + ["error"] * 2 + ["queued", "verifying"]
        return [self._image(number, states[number * 37 % 100]) for number in range(IMAGES)]

    @cached_property
    def versions(self) -> list[MarketVersion]:
        """One to three of a listing, in order; of every nineteenth listing none is listed."""
        usable: dict[int, list[MarketImage]] = {}
        for image in self.images:
            if image.state == "active" and not image.public:
                usable.setdefault(image.owner, []).append(image)
        found = []
        for listing in range(LISTINGS):
            count = (1, 2, 2, 3)[listing % 4]
            for number in range(1, count + 1):
                images = usable[publisher(listing)]
                image = images[(listing // (ACCOUNTS - 2) * 3 + number) % len(images)]
                state = self._version_state(listing, last=number == count)
                licence = listing * 2 + (number == 3)
                found.append(MarketVersion(version_id(listing, number), listing, image, number, state, licence))
        return found

    def _image(self, number: int, state: str) -> MarketImage:
        public = number % (IMAGES // PUBLIC) == 0
        owner = 1 if public else 0 if number % (IMAGES // HEAVY_IMAGES) == 3 else 1 + number % (ACCOUNTS - 2)
        identity = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return MarketImage(number, identity, owner, public, state, self._time(minutes=5 * (number - IMAGES)))

    def _version_state(self, listing: int, *, last: bool) -> str:
        if listing % 19 == 4:
            return ("withdrawn", "rejected", "in_review", "scanning")[listing // 19 % 4] if last else "withdrawn"
        return "listed" if last or listing % 3 else "withdrawn"

    def _member(self, image: MarketImage, serial: int, *, member: int, state: str, expires: str | None) -> Row:
        digest = digest_of(image.number if serial % 100 else IMAGES)  # one in a hundred was offered with other content
        digest = digest_of(image.number) if member == 0 else digest
        whose = (image.id, account(member), account(image.owner))
        return (
            f"{serial:08x}-0000-4000-8000-000000000000",
            *whose,
            state,
            digest,
            image.created_at,
            expires,
            image.created_at,
            self.past,
        )

    def _time(self, **later: int) -> str:
        return f"{self.now + timedelta(**later):%Y-%m-%d %H:%M:%S.%f}"


COLUMNS = {
    "account": "name operator reviewer max_images max_creations max_bytes created_at",
    "image": (
        "id owner name state description tags properties public protected hidden deprecated_at digest licences source "
        "capture_detail declared detected os_type os_distro os_version architecture boot_proof boot_detail min_disk_gib "
        "min_memory_mib reserved_bytes created_at updated_at deleted_at"
    ),
    "disk": "image_id index kind virtual_size digest data_bytes stored_bytes new_bytes",
    "listing": "id owner title version_id listed_at created_at updated_at",
    "version": (
        "id listing_id owner number name state image_id image_created_at digest summary description categories support_contact "
        "licence licence_digest logo_png review_until note decided_at withdrawn_for withdrawn_at created_at updated_at"
    ),
    "listing_word": "word listing_id",
    "subscription": "account listing_id licence_digest version_id accepted_at",
    "member": "id image_id account owner state digest image_created_at expires_at created_at updated_at",
}
"""Of each table in the order that its rows have them; tables in the order of what they refer to."""


def account(number: int) -> str:
    return f"account-{number:03d}"


def publisher(listing: int) -> int:
    """Number of the account whose listing it is: neither the heavy nor the light one."""
    return 1 + listing % (ACCOUNTS - 2)


def listing_id(number: int) -> str:
    return f"{number * 40_503 % 65_536:04x}{number:04x}-0000-4000-8000-000000000000"


def version_id(listing: int, number: int) -> str:
    return f"{listing * 40_503 % 65_536:04x}{listing:04x}-{number:04x}-4000-8000-000000000000"


def digest_of(number: int) -> str:
    return f"{number * 2_654_435_761 % (1 << 32):064x}"


def licence_of(number: int) -> str:
    return f"{number:064x}"


def categories_of(listing: int) -> list[str]:
    return sorted({CATEGORIES[listing % 8], CATEGORIES[listing // 8 % 8]})
