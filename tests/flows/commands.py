"""Running `ims`: its JSON and its exit code. In this process by default, which saves three seconds of imports a command;
`run_process` and `command` are for what needs a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main


@dataclass(frozen=True)
class Outcome:
    """One finished command."""

    status: int
    answer: dict[str, Any]
    words: str

    @property
    def code(self) -> str:
        """The error's code, empty where there was none."""
        return str(self.answer.get("error", {}).get("code", ""))


def _outcome(arguments: tuple[str, ...], status: int, printed: str, said: str) -> Outcome:
    try:
        return Outcome(status, json.loads(printed), said)
    except json.JSONDecodeError:
        raise AssertionError(f"ims {arguments} printed no JSON object: {printed!r} {said!r}") from None


@dataclass(frozen=True)
class Service:
    """The services of one IMS_HOME."""

    home: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *arguments, "--json"]

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "IMS_HOME": str(self.home), **extra}

    def run(self, *arguments: str, **extra: str) -> Outcome:
        """Run it to its end; `extra` are environment variables."""
        printed, said = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(said):
            for name, value in extra.items():
                patch.setenv(name, value)
            patch.setenv("IMS_ACCOUNT", extra.get("IMS_ACCOUNT", "admin"))
            status = main([*arguments, "--json"])
        return _outcome(arguments, status, printed.getvalue(), said.getvalue())

    def run_process(self, *arguments: str, **extra: str) -> Outcome:
        """The same in a process of its own."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.environment(**extra))
        return _outcome(arguments, done.returncode, done.stdout, done.stderr)

    def ims(self, *arguments: str, **extra: str) -> dict[str, Any]:
        """Run a command that must succeed, and give its answer."""
        outcome = self.run(*arguments, **extra)
        assert outcome.status == 0, f"ims {arguments}: {outcome.answer} {outcome.words}"
        return outcome.answer

    def refused(self, *arguments: str, status: int = 2, **extra: str) -> str:
        """Run a command that must fail with this exit code, and give the error's code."""
        outcome = self.run(*arguments, **extra)
        assert outcome.status == status, f"ims {arguments}: {outcome.answer} {outcome.words}"
        assert "\n" not in outcome.answer["error"]["message"]
        return outcome.code

    def convert(self, raw: Path, format: str) -> Path:
        """The same disk as another tool writes it; a VHD of its exact size."""
        target = raw.with_suffix(f".{format}")
        options = ["-o", "force_size=on"] if format == "vpc" else []
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, *options, str(raw), str(target)], check=True)
        return target
