"""Cheap questions to a service: is somebody there, and is it the right one. No client library is imported for them."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tasks.engine.settings import load_settings

PROBE_SECONDS = 3.0


def http_status(url: str, *, method: str = "GET") -> int | None:
    """The answer's status, or None where nobody answers in time."""
    answer = _ask(url, method=method, headers={}, body=None)
    return answer[0] if answer else None


def prefect_call(api_url: str, path: str, *, login: str, body: Mapping[str, object] | None = None) -> Any | None:
    """The JSON answer of the Prefect API (POST where there is a body), or None for anything but success."""
    token = base64.b64encode(login.encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    answer = _ask(
        api_url + path,
        method="GET" if body is None else "POST",
        headers=headers,
        body=None if body is None else json.dumps(body),
    )
    return json.loads(answer[1] or b"null") if answer and answer[0] < 300 else None


def unix_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _ask(url: str, *, method: str, headers: dict[str, str], body: str | None) -> tuple[int, bytes] | None:
    parts = urlsplit(url)
    connection = _connection(parts)
    try:
        connection.request(method, parts.path or "/", body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=PROBE_SECONDS, context=load_settings().tls())
    return http.client.HTTPConnection(host, parts.port, timeout=PROBE_SECONDS)
