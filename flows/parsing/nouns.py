"""What the parsers of all nouns share: verbs with their functions, and options that come again and again."""

from __future__ import annotations

import argparse
from typing import Any


class Nouns:
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


def run_options(parser: argparse.ArgumentParser) -> None:
    """Of what is a run and may be continued or handed over."""
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key again continues or returns the same run")
    parser.add_argument("--detach", action="store_true", help="hand the run to a worker and return")


def page_options(parser: argparse.ArgumentParser) -> None:
    """Of what lists a page."""
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--after", help="the `after` of the page before")
