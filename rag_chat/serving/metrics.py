"""What the server counts, in the format of Prometheus, and its line in the log for each request."""

from __future__ import annotations

import logging
import time
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_TOGETHER = (1, 2, 4, 8, 16, 32)
_METHODS = frozenset(HTTPMethod)  # a client may send any other word: it shall not become a counter of its own


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "rag_chat_requests", "Requests.", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "rag_chat_request_seconds",
            "From the first byte of a request to the last of its response.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.answers = Counter("rag_chat_answers", "Answers.", ("outcome",), registry=self._registry)
        self.under_way = Gauge("rag_chat_under_way", "Requests being answered.", registry=self._registry)
        self._together = Histogram(
            "rag_chat_answered_together", "Batch sizes.", buckets=_TOGETHER, registry=self._registry
        )

    def answered_together(self, count: int) -> None:
        """Count a batch."""
        self._together.observe(count)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)


class Metered:
    """Counts and logs each request by its route, never by its path: that holds ids, and queries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        finally:
            took = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "") or "/"
            metrics: Metrics = scope["app"].state.service.metrics
            method = scope["method"] if scope["method"] in _METHODS else "other"
            metrics.requests.labels(method, route, str(status)).inc()
            metrics.seconds.labels(route).observe(took)
            logger.info("%s %s %d %.0f ms", method, route, status, 1000 * took)
