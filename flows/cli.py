"""The `ims` command: who asks, which flow or query, how to print it. It decides nothing itself.

Commands are named by "module:function" and imported when called, so that a list or a check never pays for Prefect.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from tasks.engine.errors import ImsError, Refused, Unavailable

EXIT_DONE, EXIT_DEFECT, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 2, 3

FORMATS = ("raw", "qcow", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "zvhd", "zvhd2", "ova")
EXPORTS = ("raw", "qcow2", "vmdk", "vhd", "vhdx", "zvhd", "zvhd2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 defect, 2 refused, 3 unavailable."""
    given = _parser().parse_args(arguments)
    if given.account:
        os.environ["IMS_ACCOUNT"] = given.account
    try:
        answer = _load(given.run)(given)
    except KeyboardInterrupt:
        return _fail(given, "operation.cancelled", "Cancelled. The same command goes on.", EXIT_UNAVAILABLE)
    except ImsError as error:
        return _fail(given, error.code, error.message, exit_code(error))
    _print(given, answer)
    return int(answer.get("exit_code", EXIT_DONE))


def exit_code(error: ImsError) -> int:
    """What a failure means to the caller of the command."""
    if isinstance(error, Unavailable):
        return EXIT_UNAVAILABLE
    return EXIT_REFUSED if isinstance(error, Refused) else EXIT_DEFECT


def _load(target: str) -> Any:
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def _print(given: argparse.Namespace, answer: dict[str, Any]) -> None:
    shown = {name: value for name, value in answer.items() if name != "exit_code"}
    if given.json:
        print(json.dumps(shown, default=str))
    else:
        print(_load("flows.printing:as_text")(shown))


def _fail(given: argparse.Namespace, code: str, message: str, status: int) -> int:
    if given.json:
        print(json.dumps({"error": {"code": code, "message": message}}))
    else:
        print(f"ims: {code}: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ims", description="Images and the ECSs launched from them.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print exactly one JSON object")
    common.add_argument("--account", help="who asks (default: IMS_ACCOUNT, else admin)")
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    _services(nouns, common)
    _accounts(nouns, common)
    _images(nouns, common)
    _ecs(nouns, common)
    _series(nouns, common)
    _market(nouns, common)
    return parser


class _Nouns:
    """Adds the verbs of one noun, each with its function."""

    def __init__(self, nouns: Any, common: argparse.ArgumentParser, name: str, help: str) -> None:
        self._common = common
        self._verbs = nouns.add_parser(name, help=help).add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(self, verb: str, run: str, help: str, *, subject: str | None = None) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._verbs.add_parser(verb, parents=[self._common], help=help, description=help)
        parser.set_defaults(run=run)
        if subject:
            parser.add_argument("id", metavar=subject, help="id, or name where it is unambiguous")
        return parser


def _services(nouns: Any, common: argparse.ArgumentParser) -> None:
    for verb, help in (
        ("up", "start the embedded services that are not running"),
        ("down", "stop what `ims up` started; data stays"),
        ("status", "show which services run"),
    ):
        nouns.add_parser(verb, parents=[common], help=help, description=help).set_defaults(
            run=f"flows.commands.services:{verb}"
        )
    help = "repair or report what killed runs left behind on this host (operators only)"
    reconcile = nouns.add_parser("reconcile", parents=[common], help=help, description=help)
    reconcile.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")
    reconcile.add_argument(
        "--remove-strangers", action="store_true", help="also remove domains and files that the catalog does not know"
    )
    reconcile.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    reconcile.set_defaults(run="flows.commands.operator:reconcile")


def _accounts(nouns: Any, common: argparse.ArgumentParser) -> None:
    account = _Nouns(nouns, common, "account", "who owns images and ECSs")
    _account_verbs(account)
    account.add("list", "flows.commands.accounts:list_all", "list the accounts (operators only)")
    flavor = _Nouns(nouns, common, "flavor", "sizes of guests")
    flavor.add("list", "flows.commands.accounts:flavors", "list the flavors")
    audit = _Nouns(nouns, common, "audit", "who changed what, and when")
    audit.add("list", "flows.commands.accounts:audit", "the newest changes of what is yours").add_argument(
        "--subject", metavar="ID", help="of this image or ECS only"
    )


def _account_verbs(account: _Nouns) -> None:
    create = account.add("create", "flows.commands.accounts:create", "make an account and show its API key once")
    create.add_argument("name")
    create.add_argument("--reviewer", action="store_true", help="it may review versions of the marketplace")
    change = account.add("set", "flows.commands.accounts:change", "set an account's roles and limits (operators only)")
    change.add_argument("name")
    for role in ("operator", "reviewer"):
        change.add_argument(f"--{role}", action=argparse.BooleanOptionalAction, help=f"give or take the {role} role")
    for limit in ("images", "creations", "bytes"):
        change.add_argument(f"--max-{limit}", type=int, metavar="N")
    for verb, function, help in (
        ("show", "show", "an account and what it uses of its limits"),
        ("keys", "list_keys", "the keys that prove an account, without what they are"),
        ("rotate", "rotate", "make a new API key in place of the others and show it once"),
        ("revoke", "revoke", "end API keys at once"),
    ):
        parser = account.add(verb, f"flows.commands.accounts:{function}", help)
        parser.add_argument("name", nargs="?", help="default: the account that asks; another one as an operator")
        if verb == "rotate":
            parser.add_argument("--grace-hours", type=int, default=0, metavar="N", help="let the old keys live on for so long")
        if verb == "revoke":
            parser.add_argument("--key", metavar="ID", help="this key only")


def _images(nouns: Any, common: argparse.ArgumentParser) -> None:
    image = _Nouns(nouns, common, "image", "templates that ECSs are launched from")
    check = image.add("check", "flows.commands.images:check", "read a file's headers and say whether it can be imported")
    bring = image.add("import", "flows.commands.images:import_", "make an image of an external file")
    for parser in (check, bring):
        parser.add_argument("source", metavar="SOURCE", help="a path, inbox:KEY, or an http(s) URL")
        parser.add_argument("--format", choices=FORMATS, help="refuse the file unless it is of this format")
    bring.add_argument("--name", required=True)
    bring.add_argument("--checksum", metavar="sha256:HEX", help="verified before anything else reads the file")
    bring.add_argument("--verify", choices=("boot", "none"), default="boot", help="boot it before it becomes active (default)")
    bring.add_argument("--description", default="")
    bring.add_argument("--tag", action="append", default=[], dest="tags", metavar="TAG")
    bring.add_argument("--min-memory", type=int, default=0, metavar="MIB")
    _run_options(bring)
    listing = image.add("list", "flows.commands.images:list_all", "list the images you see, newest first")
    listing.add_argument("--type", choices=("public", "private", "shared", "marketplace"))
    listing.add_argument("--all", action="store_true", help="also hidden and deprecated ones")
    _page_options(listing)
    image.add("show", "flows.commands.images:show", "show one image", subject="IMAGE")
    lineage = image.add("lineage", "flows.commands.images:lineage", "what it came from, and what runs it", subject="IMAGE")
    lineage.add_argument("--draw", action="store_true", help="draw it as a picture in the Prefect UI")
    export = image.add("export", "flows.commands.images:export", "write a disk of an image to a file", subject="IMAGE")
    export.add_argument("--format", required=True, choices=EXPORTS)
    export.add_argument("--to", metavar="PATH", help="new file; without it, the exports bucket and a presigned URL")
    export.add_argument("--disk", type=int, default=0, metavar="INDEX")
    export.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    _shares(image)
    _gate(image)
    image.add("delete", "flows.commands.images:delete", "delete an image; its ECSs live on", subject="IMAGE")
    for verb, help in (
        ("deactivate", "refuse launches and exports of an image"),
        ("reactivate", "allow them again"),
        ("deprecate", "hide an image from lists; it still launches"),
        ("protect", "refuse its deletion"),
        ("unprotect", "allow its deletion"),
    ):
        image.add(verb, f"flows.commands.images:{verb}", help, subject="IMAGE")


def _shares(image: _Nouns) -> None:
    share = image.add("share", "flows.commands.shares:share", "offer an image to other accounts", subject="IMAGE")
    share.add_argument("accounts", nargs="+", metavar="ACCOUNT")
    share.add_argument("--days", type=int, metavar="N", help="the share ends by itself after so many days")
    unshare = image.add("unshare", "flows.commands.shares:unshare", "take an image back from accounts", subject="IMAGE")
    unshare.add_argument("accounts", nargs="+", metavar="ACCOUNT")
    accept = image.add("accept", "flows.commands.shares:accept", "accept an image that is shared with you", subject="IMAGE")
    accept.add_argument("--digest", help="refuse anything but this content")
    image.add("reject", "flows.commands.shares:reject", "hide an image that is shared with you", subject="IMAGE")
    image.add("leave", "flows.commands.shares:leave", "give a share back for good", subject="IMAGE")
    image.add("members", "flows.commands.shares:members", "who was offered your image, and what they answered", subject="IMAGE")
    offers = image.add("offers", "flows.commands.shares:offers", "what others share with you")
    offers.add_argument("--state", choices=("pending", "accepted", "rejected"), default="pending")
    _page_options(offers)


def _gate(image: _Nouns) -> None:
    scan = image.add(
        "scan", "flows.commands.images:scan", "put an image through the publish gate; exit 2 where it fails", subject="IMAGE"
    )
    scan.add_argument("--sbom", metavar="PATH", help="write the package list (CycloneDX) to a file")
    scan.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    image.add("scans", "flows.commands.images:scans", "earlier scans of your image", subject="IMAGE")
    image.add("report", "flows.commands.images:report", "the report and package list of a scan", subject="SCAN")
    image.add("public", "flows.commands.images:public", "scan an image and show it to all (operators only)", subject="IMAGE")
    image.add("unpublic", "flows.commands.images:unpublic", "take a public image back (operators only)", subject="IMAGE")
    revoke = image.add("revoke", "flows.commands.images:revoke", "deactivate an image and say what runs it", subject="IMAGE")
    revoke.add_argument("--descendants", action="store_true", help="and all that descends from it")


def _market(nouns: Any, common: argparse.ArgumentParser) -> None:
    market = _Nouns(nouns, common, "market", "products that anybody may subscribe to and launch")
    _publish(market)
    listing = market.add("list", "flows.commands.market:list_all", "what is listed, newest first")
    listing.add_argument(
        "--search", default="", metavar="WORDS", help="each begins a word of title, summary, system or publisher"
    )
    listing.add_argument("--category", metavar="NAME")
    _page_options(listing)
    market.add("show", "flows.commands.market:show", "a product, its licence and its versions", subject="LISTING")
    market.add("mine", "flows.commands.market:mine", "the versions that you submitted")
    market.add("version", "flows.commands.market:version", "a version and what the gate found", subject="VERSION")
    subscribe = market.add(
        "subscribe", "flows.commands.market:subscribe", "accept a licence and be able to launch", subject="LISTING"
    )
    accepted = subscribe.add_mutually_exclusive_group()
    accepted.add_argument("--accept", action="store_true", help="accept the licence that `ims market show` prints now")
    accepted.add_argument("--licence", metavar="DIGEST", help="accept the licence with this SHA-256 and no other")
    market.add("subscriptions", "flows.commands.market:subscriptions", "what you subscribed to")
    market.add("reviews", "flows.commands.market:reviews", "what waits for an answer (reviewers only)")
    review = market.add("review", "flows.commands.market:review", "answer a review (reviewers only)", subject="VERSION")
    review.add_argument("--decision", required=True, choices=("approve", "reject"))
    review.add_argument("--note", default="", help="what the publisher is told")
    withdraw = market.add("withdraw", "flows.commands.market:withdraw", "close a version", subject="VERSION")
    withdraw.add_argument(
        "--for", dest="scope", choices=("new", "all"), default="new", help="new subscribers (default), or all"
    )
    rescan = market.add("rescan", "flows.commands.market:rescan", "put what is listed through the gate again (operators only)")
    rescan.add_argument("--policy", choices=("notify", "withdraw-new", "withdraw-all"), default="notify")
    rescan.add_argument("--detach", action="store_true", help="hand the run to a worker and return")


def _publish(market: _Nouns) -> None:
    publish = market.add(
        "publish", "flows.commands.market:publish", "submit an image as a version of a product", subject="IMAGE"
    )
    publish.add_argument("--title", required=True, help="of the product; its first version makes it")
    publish.add_argument("--version", required=True, metavar="NAME", help="such as 1.0")
    publish.add_argument("--summary", required=True, help="one line")
    publish.add_argument(
        "--category", action="append", required=True, dest="categories", metavar="NAME", help="may be repeated"
    )
    publish.add_argument("--support", required=True, metavar="CONTACT", help="where subscribers ask for help")
    publish.add_argument("--licence", required=True, metavar="FILE", help="text of the licence that subscribers accept")
    described = publish.add_mutually_exclusive_group()
    described.add_argument("--description", default="")
    described.add_argument("--description-file", metavar="FILE")
    publish.add_argument("--logo", metavar="FILE", help="a PNG of at most 64 KiB")
    publish.add_argument("--review-days", type=int, default=7, metavar="N", help="rejected without an answer after so long")
    _run_options(publish)


def _ecs(nouns: Any, common: argparse.ArgumentParser) -> None:
    ecs = _Nouns(nouns, common, "ecs", "guests launched from images")
    launch = ecs.add("launch", "flows.commands.guests:launch", "launch an ECS from an image", subject="IMAGE")
    launch.add_argument("--name", required=True)
    launch.add_argument("--flavor", default="small", help="see `ims flavor list`")
    launch.add_argument("--disk", type=int, metavar="GIB", help="size of the system disk")
    launch.add_argument(
        "--data-disk", action="append", type=int, default=[], metavar="GIB", help="add an empty data disk; may be repeated"
    )
    launch.add_argument("--ssh-key", action="append", default=[], metavar="FILE", help="public key that may log in")
    launch.add_argument("--user-data", metavar="FILE", help="script or cloud-config for first boot")
    launch.add_argument("--standalone", action="store_true", help="also copy the whole base into the ECS's own file")
    _run_options(launch)
    _page_options(ecs.add("list", "flows.commands.guests:list_all", "list your ECSs, newest first"))
    ecs.add("show", "flows.commands.guests:show", "show one ECS", subject="ECS")
    console = ecs.add("console", "flows.commands.guests:console", "the end of its serial console", subject="ECS")
    console.add_argument("--lines", type=int, default=50)
    shot = ecs.add("screenshot", "flows.commands.guests:screenshot", "save a picture of its screen", subject="ECS")
    shot.add_argument("--to", metavar="PATH", help="default: beside its disk")
    _capture(ecs)
    attach = ecs.add("attach", "flows.commands.guests:attach", "add a disk from a data-disk image", subject="ECS")
    attach.add_argument("image", metavar="IMAGE", help="an image of a single data disk")
    attach.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    for verb in ("stop", "start", "delete"):
        ecs.add(verb, f"flows.commands.guests:{verb}", f"{verb} an ECS", subject="ECS")


def _capture(ecs: _Nouns) -> None:
    capture = ecs.add("capture", "flows.commands.guests:capture", "make an image of a running or stopped ECS", subject="ECS")
    capture.add_argument("--name", required=True, help="name of the image")
    scope = capture.add_mutually_exclusive_group()
    scope.add_argument("--whole", action="store_true", help="all disks at one point in time")
    scope.add_argument("--disk", type=int, metavar="INDEX", help="a data-disk image of this one disk")
    capture.add_argument(
        "--no-generalize", dest="generalize", action="store_false", help="keep host keys, machine-id, logs and the like in it"
    )
    capture.add_argument(
        "--consistency",
        choices=("best", "filesystem", "crash"),
        default="best",
        help="filesystem refuses anything less than frozen file systems, crash does not freeze",
    )
    capture.add_argument(
        "--verify", choices=("boot", "none"), default="boot", help="boot it before it becomes active (default)"
    )
    capture.add_argument("--description", default="")
    capture.add_argument("--tag", action="append", default=[], dest="tags", metavar="TAG")
    capture.add_argument("--series", metavar="NAME", help="series that it belongs to")
    _run_options(capture)


def _series(nouns: Any, common: argparse.ArgumentParser) -> None:
    series = _Nouns(nouns, common, "series", "images captured again and again, of which the last ones are kept")
    run = series.add("run", "flows.commands.series:run", "capture ECSs into a series and thin it")
    run.add_argument("ecs", nargs="+", metavar="ECS", help="id, or name where it is unambiguous")
    run.add_argument("--series", default="nightly", metavar="NAME")
    run.add_argument("--keep", type=int, default=7, metavar="N", help="images of each ECS to keep (default: 7)")
    run.add_argument("--apply", action="store_true", help="delete what is beyond them; without it they are only named")
    run.add_argument(
        "--no-generalize", dest="generalize", action="store_false", help="keep host keys, machine-id, logs and the like in it"
    )
    run.add_argument("--verify", choices=("boot", "none"), default="boot", help="boot each before it is active (default)")
    run.add_argument("--detach", action="store_true", help="hand the run to a worker and return")
    series.add("list", "flows.commands.series:list_all", "list your series and what they occupy")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key again continues or returns the same run")
    parser.add_argument("--detach", action="store_true", help="hand the run to a worker and return")


def _page_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--after", help="the `after` of the page before")


if __name__ == "__main__":
    sys.exit(main())
