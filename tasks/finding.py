"""People name images and ECSs by id or by name; these find the id. No Prefect here: commands that only read use them too."""

from __future__ import annotations

from sqlmodel import Session

from models.ecs import get_ecs, list_ecs
from models.exceptions import NotVisible
from models.images import ImageFilter, get_image, list_images
from models.listings import listed_image
from models.sharing import held_share, list_offers
from models.vocabulary import MemberState
from tasks.engine.errors import RequestRefused, StateRefused


def resolve_image(session: Session, *, account: str, wanted: str) -> str:
    """The id of a visible image. Raises NotVisible, or RequestRefused where several have the name."""
    chosen = ImageFilter(name=wanted, everything=True)
    named = [image.id for image in list_images(session, account=account, chosen=chosen, limit=2).rows]
    if found := _only(named, wanted):
        return found
    try:
        return get_image(session, account=account, image_id=wanted).id
    except NotVisible:
        if listing := listed_image(session, image_id=wanted):  # no secret: everybody reads the listing
            reason, remedy = f"image {wanted} is offered by {listing.title!r}", f"`ims market subscribe {listing.id}` first."
            raise StateRefused("image", "not_subscribed", reason, remedy=remedy) from None
        raise


def resolve_offer(session: Session, *, account: str, wanted: str) -> str:
    """The id of an image that somebody shares with the account, however it answered. Raises NotVisible, RequestRefused."""
    offers = [offer for state in MemberState for offer in list_offers(session, account=account, state=state, limit=1000).rows]
    named = sorted({offer.image.id for offer in offers if wanted in (offer.image.id, offer.image.name)})
    return _only(named, wanted) or held_share(session, account=account, image_id=wanted).image_id


def resolve_ecs(session: Session, *, account: str, wanted: str) -> str:
    """The id of an account's ECS. Raises NotVisible, or RequestRefused where several have the name."""
    named = [ecs.id for ecs in list_ecs(session, account=account, limit=1000).rows if ecs.name == wanted]
    return _only(named, wanted) or get_ecs(session, account=account, ecs_id=wanted).id


def _only(found: list[str], wanted: str) -> str | None:
    if len(found) > 1:
        raise RequestRefused("ambiguous", f"more than one is named {wanted!r}", remedy="Use the id.")
    return found[0] if found else None
