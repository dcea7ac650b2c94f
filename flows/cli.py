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

from flows.parsing.command import make_parser
from tasks.engine.errors import ImsError, Refused, Unavailable

EXIT_DONE, EXIT_DEFECT, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 defect, 2 refused, 3 unavailable."""
    given = make_parser().parse_args(arguments)
    if given.account:
        os.environ["IMS_ACCOUNT"] = given.account
    try:
        answer = _load(given.run)(given)
    except KeyboardInterrupt:
        return _fail(given, "operation.cancelled", "Cancelled. The same command goes on.", EXIT_UNAVAILABLE)
    except ImsError as error:
        return _fail(given, error.code, error.message, exit_code(error))
    except Exception as error:
        away = _load("flows.calling:server_away")(error)
        if away is None:
            raise
        return _fail(given, away.code, away.message, exit_code(away))
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


if __name__ == "__main__":
    sys.exit(main())
