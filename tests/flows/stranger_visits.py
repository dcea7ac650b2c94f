"""Every flow and every command as a stranger calls it about what is a victim's. No tests here.

`test_stranger.py` fails for a deployment or a verb that is neither here nor, with a reason, among the exempted ones. A command
that does no more than run a flow is called with ids alone; the flow is called with names as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from victim_rows import MARK, THIRD, Planted


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One call about things of some kinds, `{it}` in its values; `code` is the refusal, empty where the answer is one."""

    call: tuple[tuple[str, Any], ...] | tuple[str, ...]
    about: tuple[str, ...]
    code: str

    def values(self, planted: Planted, it: str) -> list[Any]:
        """The call's values with what they are about, or what is the stranger's own, in place."""
        own = {f"own_{kind}": value for kind, value in planted.own.items()}
        return [_filled(value, it=it, file=__file__, **own) for value in self.call]

    def parameters(self, planted: Planted, it: str) -> dict[str, Any]:
        return dict(self.values(planted, it))


def _filled(value: Any, **known: str) -> Any:
    if isinstance(value, str):
        return value.format(**known)
    return type(value)(_filled(each, **known) for each in value) if isinstance(value, list | tuple) else value


def run(about: str, code: str, /, **parameters: Any) -> Visit:
    """A flow called with these parameters."""
    return Visit(call=tuple(parameters.items()), about=tuple(about.split()), code=code)


def say(command: str, about: str = "", code: str = "") -> Visit:
    """A command with these words; without `about` it names nothing."""
    return Visit(call=tuple(command.split()), about=tuple(about.split()), code=code)


IMAGE, ECS, LISTING = "image image_name", "ecs ecs_name", "listing title"
NO_IMAGE, NO_ECS, NO_LISTING, NO_VERSION = (f"{kind}.not_found" for kind in ("image", "ecs", "listing", "version"))
OPERATOR, REVIEWER = "account.operator", "account.reviewer"
PRODUCT = {
    "title": f"{MARK} product",
    "version": "1.0",
    "summary": "x",
    "categories": ["web"],
    "support_contact": "x",
    "licence": "x",
}
DIGEST = "f" * 64

FLOWS: dict[str, list[Visit]] = {
    "accept-share": [run(IMAGE, NO_IMAGE, image="{it}"), run("image", NO_IMAGE, image="{it}", digest=DIGEST)],
    "answer-review": [run("version", REVIEWER, version="{it}", decision="approve")],
    "attach-disk": [
        run(ECS, NO_ECS, ecs="{it}", image="{own_image}"),
        run(IMAGE, NO_IMAGE, ecs="{own_ecs}", image="{it}"),
    ],
    "capture-ecs": [run(ECS, NO_ECS, ecs="{it}", name="x")],
    "capture-series": [run(ECS, "capture.series", ecs=["{it}"], series=f"{MARK} nightly", apply=True)],
    "collect-garbage": [run("", OPERATOR), run("", OPERATOR, apply=True, adopt=True)],
    "delete-ecs": [run(ECS, NO_ECS, ecs="{it}")],
    "delete-image": [run(IMAGE, NO_IMAGE, image="{it}")],
    "draw-lineage": [run(IMAGE, NO_IMAGE, image="{it}")],
    "expire-exports": [run("", OPERATOR), run("", OPERATOR, days=0)],
    "expire-offers": [run("", OPERATOR)],
    "export-image": [run(IMAGE, NO_IMAGE, image="{it}", format="raw")],
    "flag-public": [run(IMAGE, NO_IMAGE, image="{it}"), run("", OPERATOR, image="{own_image}")],
    "import-announced": [run("inbox", "source.missing", key="{it}")],
    "forget-runs": [run("", OPERATOR)],
    "import-image": [run("inbox", "source.missing", source="inbox:{it}", name="x")],
    "launch-ecs": [run(IMAGE, NO_IMAGE, image="{it}", name="x")],
    "leave-share": [run(IMAGE, NO_IMAGE, image="{it}")],
    "publish-image": [run(IMAGE, NO_IMAGE, image="{it}", **PRODUCT)],
    "reconcile": [run("", OPERATOR)],
    "reject-share": [run(IMAGE, NO_IMAGE, image="{it}")],
    "report-capacity": [run("", OPERATOR)],
    "rescan-listed": [run("", OPERATOR)],
    "revoke-image": [run(IMAGE, NO_IMAGE, image="{it}", descendants=True)],
    "scan-image": [run(IMAGE, NO_IMAGE, image="{it}")],
    "share-image": [run(IMAGE, NO_IMAGE, image="{it}", accounts=[THIRD])],
    "start-ecs": [run(ECS, NO_ECS, ecs="{it}")],
    "stop-ecs": [run(ECS, NO_ECS, ecs="{it}")],
    "subscribe-listing": [run(LISTING, NO_LISTING, listing="{it}", licence=DIGEST)],
    "verify-store": [run("", OPERATOR)],
    "watch-inbox": [run("", OPERATOR)],
    "withdraw-share": [
        run(IMAGE, NO_IMAGE, image="{it}", accounts=[THIRD]),
        run("account", "member.not_found", image="{own_image}", accounts=["{it}"]),
    ],
    "withdraw-version": [run("version", NO_VERSION, version="{it}", scope="all")],
}

ASKED_ELSEWHERE = {
    "review-version": "it takes no account: it waits for a form, and what counts is whose answer it takes; see its own test",
}

_PUBLISH = "--title x --version 1.0 --summary x --category web --support x --licence {file}"

COMMANDS: dict[str, list[Visit]] = {
    "account create": [say("{it}", "account", OPERATOR)],
    "account keys": [say("{it}", "account", OPERATOR), say("")],
    "account list": [say("", code=OPERATOR)],
    "account revoke": [say("{it}", "account", OPERATOR), say("--key {it}", "key", "key.not_found")],
    "account rotate": [say("{it}", "account", OPERATOR)],
    "account set": [say("{it} --operator", "account", OPERATOR)],
    "account show": [say("{it}", "account", OPERATOR), say("")],
    "audit list": [say(""), say("--subject {it}", "image ecs version listing operation account")],
    "ecs attach": [say("{it} {own_image}", "ecs", NO_ECS), say("{own_ecs} {it}", "image", NO_IMAGE)],
    "ecs capture": [say("{it} --name x", "ecs", NO_ECS)],
    "ecs console": [say("{it}", ECS, NO_ECS)],
    "ecs delete": [say("{it}", "ecs", NO_ECS)],
    "ecs launch": [say("{it} --name x", "image", NO_IMAGE)],
    "ecs list": [say("")],
    "ecs screenshot": [say("{it}", ECS, NO_ECS)],
    "ecs show": [say("{it}", ECS, NO_ECS)],
    "ecs start": [say("{it}", "ecs", NO_ECS)],
    "ecs stop": [say("{it}", "ecs", NO_ECS)],
    **{f"host {verb}": [say("x", code=OPERATOR)] for verb in ("add", "drain", "remove", "resume", "show")},
    "host list": [say("", code=OPERATOR)],
    "image accept": [say("{it}", "image", NO_IMAGE)],
    "image check": [
        say("inbox:{it}", "inbox", "source.missing"),
        say("inbox:../{it}/disk.raw", "account", "request.inbox_key"),
    ],
    "image deactivate": [say("{it}", IMAGE, NO_IMAGE)],
    "image delete": [say("{it}", "image", NO_IMAGE)],
    "image deprecate": [say("{it}", IMAGE, NO_IMAGE)],
    "image export": [say("{it} --format raw", "image", NO_IMAGE)],
    "image import": [
        say("inbox:../{it}/disk.raw --name x", "account", "request.inbox_key"),
        say("inbox:nothing --name x --idempotency-key {it}", "idempotency_key", "source.missing"),
        say("inbox:nothing --name {it}", "image_name", "source.missing"),
    ],
    "image leave": [say("{it}", "image", NO_IMAGE)],
    "image lineage": [say("{it}", IMAGE, NO_IMAGE), say("{it} --draw", "image", NO_IMAGE)],
    "image list": [say("--all --limit 1000")]
    + [say(f"--all --limit 1000 --type {kind}") for kind in ("public", "private", "shared", "marketplace")],
    "image members": [say("{it}", IMAGE, NO_IMAGE)],
    "image offers": [say(f"--limit 1000 --state {state}") for state in ("pending", "accepted", "rejected")],
    "image protect": [say("{it}", IMAGE, NO_IMAGE)],
    "image public": [say("{it}", "image", NO_IMAGE)],
    "image reactivate": [say("{it}", IMAGE, NO_IMAGE)],
    "image reject": [say("{it}", "image", NO_IMAGE)],
    "image report": [say("{it}", "scan", "scan.not_found")],
    "image revoke": [say("{it} --descendants", "image", NO_IMAGE)],
    "image scan": [say("{it}", "image", NO_IMAGE)],
    "image scans": [say("{it}", IMAGE, NO_IMAGE)],
    "image share": [say(f"{{it}} {THIRD}", "image", NO_IMAGE)],
    "image show": [say("{it}", IMAGE, NO_IMAGE)],
    "image unprotect": [say("{it}", IMAGE, NO_IMAGE)],
    "image unpublic": [say("{it}", "image", NO_IMAGE)],
    "image unshare": [say(f"{{it}} {THIRD}", "image", NO_IMAGE)],
    "inbox list": [say("")],
    "market list": [say("--limit 1000"), say(f"--search {MARK}"), say(f"--category {MARK}")],
    "market mine": [say("")],
    "market publish": [say(f"{{it}} {_PUBLISH}", "image", NO_IMAGE)],
    "market rescan": [say("", code=OPERATOR)],
    "market review": [say("{it} --decision reject", "version", REVIEWER)],
    "market reviews": [say("", code=REVIEWER)],
    "market show": [say("{it}", LISTING, NO_LISTING)],
    "market subscribe": [
        say("{it} --accept", LISTING, NO_LISTING),
        say(f"{{it}} --licence {DIGEST}", "listing", NO_LISTING),
    ],
    "market subscriptions": [say("")],
    "market version": [say("{it}", "version", NO_VERSION)],
    "market withdraw": [say("{it} --for all", "version", NO_VERSION)],
    "metrics": [say("", code=OPERATOR), say("--serve 0", code=OPERATOR)],
    "reconcile": [say("", code=OPERATOR)],
    "report": [say("", code=OPERATOR), say("--days 1", code=OPERATOR)],
    "series list": [say("")],
    "series run": [say("{it}", "ecs", "capture.series")],
    "store gc": [say("", code=OPERATOR), say("--apply --adopt", code=OPERATOR)],
    "store stats": [say("", code=OPERATOR)],
    "store verify": [say("--all", code=OPERATOR)],
}

OF_THE_HOST = {
    **dict.fromkeys(("up", "down", "status"), "starts, ends or shows services of this host for whoever may; no account asks"),
    "inbox serve": "serves the store's notifications, whose token is what counts",
    "flavor list": "flavors are everybody's, and no account asks",
}
