"""The door of the server: who may come in, as whom, and what every response carries.

Pure ASGI, around the whole application, so that nothing of a request's body is read before it may pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_chat.serving.problems import Refused, respond
from rag_chat.serving.settings import LOOPBACK, ServingSettings

COOKIE = "rag_chat_owner"
VISITOR = "x-rag-chat-visitor"
"""The header by which the widget, on an allow-listed site, says who its visitor is."""

_SECRET = re.compile(r"[0-9a-f]{32}")  # 128 bits
_NEEDS_KEY = ("/api/", "/v1/", "/metrics", "/openapi.json")  # the rest is the page and the health checks
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_YEAR = 365 * 24 * 3600


class Guard:
    """Checks host, origin and key, finds the owner, and bounds the body: its size and its time.

    The owner (`scope["state"]["owner"]`) is a hash of what only the client knows: its API key, the random
    cookie of its browser, or what the widget made up for its visitor.
    """

    def __init__(self, app: ASGIApp, settings: ServingSettings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = {name.lower() for name in (*LOOPBACK, *settings.hosts)}
        self._keys = [_digest(key) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, cookie = Headers(scope=scope), ""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
                if scope["path"].startswith(("/api/", "/v1/")):
                    given.setdefault("Cache-Control", "no-store")
                if cookie:
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    attributes = f"Max-Age={_YEAR}; Path=/; HttpOnly; SameSite=Strict{secure}"
                    given.append("Set-Cookie", f"{COOKIE}={cookie}; {attributes}")
            await send(message)

        try:
            key = self._checked(scope, headers)
        except Refused as refused:
            await respond(refused)(scope, receive, send_guarded)
            return
        secret, kind = self._identity(headers, key)
        if not secret:
            secret, kind = secrets.token_hex(16), "browser"
            cookie = secret if scope["path"].startswith("/api/") else ""
        scope.setdefault("state", {})["owner"] = f"{kind}:{_digest(f'{kind}:{secret}').hex()[:32]}"
        await self._app(scope, self._bounded(receive), send_guarded)

    def _checked(self, scope: Scope, headers: Headers) -> str:
        """Return the API key of a request that may pass ("" where none is needed), or raise Refused."""
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            raise Refused(
                400,
                "This server does not go by the name in the Host header.",
                "Its operator can allow it: rag-chat serve --allow-host NAME",
                code="unknown_host",
            )
        origin = headers.get("origin")
        own = origin is None or origin.partition("://")[2] == host
        if not own and scope["method"] not in _SAFE and origin not in self._settings.origins:
            raise Refused(
                403,
                "Pages of this origin may not use the server.",
                "Its operator can allow it: rag-chat serve --allow-origin ORIGIN",
                code="unknown_origin",
            )
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        key = ""
        if self._keys and not preflight and scope["path"].startswith(_NEEDS_KEY):
            key = self._key(headers)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.body_bytes:
            raise Refused(413, f"The body has more than {self._settings.body_bytes} bytes.", "Shorten it.")
        return key

    def _key(self, headers: Headers) -> str:
        """Return the API key of a request, or raise Refused."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, known) for known in self._keys]  # all: in constant time
        if scheme.lower() != "bearer" or not any(matches):
            raise Refused(
                401,
                "The API key is missing or wrong.",
                "Send it as: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return key.strip()

    def _identity(self, headers: Headers, key: str) -> tuple[str, str]:
        """Return what only this client knows, and which kind of secret it is; ("", "") for a new browser."""
        if key:
            return key, "key"
        visitor = headers.get(VISITOR, "")
        if _SECRET.fullmatch(visitor) and headers.get("origin") in self._settings.origins:
            return f"{headers['origin']} {visitor}", "visitor"
        cookie = _cookie(headers.getlist("cookie"))
        return (cookie, "browser") if cookie else ("", "")

    def _bounded(self, receive: Receive) -> Receive:
        """Receive, but no body without end, and none that trickles in: it would hold memory or a place."""
        loop = asyncio.get_running_loop()
        deadline, whole, size = loop.time() + self._settings.body_seconds, False, 0

        async def receive_in_bounds() -> Message:
            nonlocal whole, size
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - loop.time())
            except TimeoutError:
                raise HTTPException(408, "The body did not arrive in time") from None
            whole = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > self._settings.body_bytes:
                raise HTTPException(413, f"The body has more than {self._settings.body_bytes} bytes")
            return message

        return receive_in_bounds


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def _cookie(headers: Sequence[str]) -> str:
    for header in headers:
        try:
            found = SimpleCookie(header).get(COOKIE)
        except CookieError:
            continue
        if found and _SECRET.fullmatch(found.value):
            return found.value
    return ""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
