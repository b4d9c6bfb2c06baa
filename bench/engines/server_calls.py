"""Calls that set a server up: which models it has, how it tokenizes, load, unload. Timed requests are left to `monitor.http`.

No redirect is followed and no proxy asked, so that a key goes to the host that was named and to no other.
"""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any
from urllib.parse import urlsplit

from monitor.framing import excerpt
from monitor.secrets import without_secrets
from results.errors import GemmeterError
from results.records import FailureKind

TIMEOUT_S = 30.0
NO_ENDPOINT = (404, 405, 501)
"""How servers say that they lack an endpoint."""


class ServerError(GemmeterError):
    """A server that does not answer, refuses, or lacks the model.

    Attributes:
        status: of the HTTP answer; `None` where there was none.
        kind: of the `Failure` that it becomes.
    """

    def __init__(self, message: str, *, status: int | None = None, kind: FailureKind = "engine_error") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class ServerCalls:
    """JSON calls to one server. Messages name the server; its URL may hold what must not be stored."""

    root: str = field(repr=False)
    name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def ask(self, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        """The JSON answer to a GET, or to a POST of `body`.

        Raises:
            ServerError: no connection, a status of 300 or more, or no JSON.
        """
        try:
            with self._open(path, body, timeout_s) as answer:
                return json.loads(answer.read())
        except (OSError, HTTPException) as error:
            raise self._failed(path, error) from error
        except ValueError as error:
            raise ServerError(f"{self._who} answered {path} with something else than JSON: check its URL.", status=200) from error

    def ask_for(
        self, wanted: Mapping[str, type], path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """The answer to `ask`: an object that has these names, of these types.

        Raises:
            ServerError: as `ask`, or the answer is another: what answers is no such server.
        """
        answer = self.ask(path, body, timeout_s=timeout_s)
        if not isinstance(answer, dict) or not all(isinstance(answer.get(name), kind) for name, kind in wanted.items()):
            raise self.other_kind(path)
        return answer

    def other_kind(self, path: str) -> ServerError:
        """For an answer that no server of the kind that was named gives."""
        text = f"{self._who} answered {path} as no server of its kind does: check its URL and what kind of server it is."
        return ServerError(text, status=200)

    def lines(self, path: str, body: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Iterator[dict[str, Any]]:
        """The objects of a streamed answer, one JSON object a line; `timeout_s` is that of each read.

        Raises:
            ServerError: as `ask`, or an object with an `error`.
        """
        try:
            with self._open(path, body, timeout_s) as answer:
                for line in answer:
                    if line.strip():
                        found = json.loads(line)
                        if not isinstance(found, dict):
                            raise ValueError("no object")
                        if found.get("error"):
                            said = excerpt(without_secrets(str(found["error"]), self.headers))
                            raise ServerError(f"{self._who} failed at {path}: {said}")
                        yield found
        except (OSError, HTTPException) as error:
            raise self._failed(path, error) from error
        except ValueError as error:
            raise ServerError(f"{self._who} answered {path} with something else than JSON lines: check its URL.") from error

    @property
    def _who(self) -> str:
        return f"The server {self.name}" if self.name else "The server"

    def _open(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.root.rstrip("/") + path, data, headers)  # noqa: S310 checked where URLs come in
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=timeout_s)  # type: ignore[no-any-return]

    def _failed(self, path: str, error: Exception) -> ServerError:
        if isinstance(error, urllib.error.HTTPError):
            said = _said(error.read(4096), self.headers)
            if error.code in (401, 403):
                return ServerError(
                    f"{self._who} refused the key ({error.code}{said}): name the variable that holds the right one as api_key_env.",
                    status=error.code,
                )
            return ServerError(f"{self._who} answered {path} with {error.code}{said}.", status=error.code)
        if isinstance(error, InvalidURL):  # its words hold the URL
            return ServerError(f"{self._who} cannot be asked: its URL holds what no address can: correct it.")
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionRefusedError):
            port = urlsplit(self.root).port
            at = f" on port {port}" if port else ""
            return ServerError(f"{self._who} does not answer: nothing listens{at}: start it, or correct its URL.")
        if isinstance(reason, ssl.SSLError):
            return ServerError(
                f"{self._who} makes no secure connection ({reason.reason}): check http:// or https:// in its URL, and its certificate."
            )
        text = str(reason) or type(reason).__name__
        return ServerError(f"{self._who} does not answer ({text}): check its URL and the network.")


def _said(body: bytes, headers: Mapping[str, str]) -> str:
    """What an error's body says, in any of the shapes that servers use, as `: text`."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    for key in ("error", "message", "detail", "msg"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return f": {excerpt(without_secrets(str(found), headers))}"
