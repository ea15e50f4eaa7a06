"""Errors as clients read them: OpenAI's shape on every path, with what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rag_chat.errors import RagChatError, UsageError
from rag_chat.serving.worker import Stopping, TooSlow

logger = logging.getLogger(__name__)

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class Refused(RagChatError):
    """A request that is answered with an error of this HTTP status."""

    def __init__(
        self,
        status: int,
        problem: str,
        fix: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(problem, fix)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers


class Busy(Refused):
    """More requests are under way than the server takes; there may be room after so many seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            429,
            "The server is busy.",
            f"Try again in {retry_after} s.",
            code="busy",
            headers={"Retry-After": str(retry_after)},
        )


def not_found(what: str) -> Refused:
    """What is not there, and what is another owner's: nobody can tell which."""
    return Refused(404, f"There is no such {what}.", "Check the id.", code=f"{what}_not_found")


def problem_json(
    status: int, problem: str, fix: str = "", *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body of an error."""
    kind = _KINDS.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    message = f"{problem} {fix}".strip()
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_json(error: Exception) -> dict[str, Any]:
    """The body for an error that ends a stream."""
    refused = _refused(error)
    return problem_json(refused.status, refused.problem, refused.fix, param=refused.param, code=refused.code)


def respond(refused: Refused) -> JSONResponse:
    """The response that tells of an error."""
    body = problem_json(refused.status, refused.problem, refused.fix, param=refused.param, code=refused.code)
    return JSONResponse(body, refused.status, headers=dict(refused.headers or {}))


def install(app: FastAPI) -> None:
    """Make every error of an application a response of this shape."""

    async def of_library(_: Request, error: Exception) -> JSONResponse:
        return respond(_refused(error))

    async def of_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(_invalid(error))

    async def of_framework(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        refused = Refused(error.status_code, f"{error.detail}.", "", headers=error.headers)
        return respond(refused)

    app.add_exception_handler(RagChatError, of_library)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(Exception, of_library)


def _refused(error: Exception) -> Refused:
    """The error as a client may see it: of what is not the client's doing only that it happened."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, TooSlow):
        return Refused(504, error.problem, error.fix, code="timeout")
    if isinstance(error, Stopping):
        return Refused(503, error.problem, error.fix, code="shutting_down", headers={"Retry-After": "5"})
    if isinstance(error, UsageError):
        return Refused(400, error.problem, error.fix)
    logger.error("A request failed: %s", type(error).__name__, exc_info=error)
    return Refused(500, "The server failed to answer.", "Its log says why.")


def _invalid(error: RequestValidationError) -> Refused:
    """A body or parameter of the wrong shape: 400, not FastAPI's 422, and the name of the first at fault."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(names) or None
    return Refused(400, f"{param or 'The request'}: {first['msg']}.", "", param=param, code=first["type"])
