"""Whatever is sent: a documented answer, and never a 500. Requests are made from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import models
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import CORPUS

from rag_chat.assistant import Assistant
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app

EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
OPERATIONS = [
    ("POST", "/api/ask"),
    ("GET", "/api/search"),
    ("GET", "/api/passages/{passage_id}"),
    ("GET", "/api/sessions"),
    ("POST", "/api/sessions"),
    ("GET", "/api/sessions/{session}"),
    ("DELETE", "/api/sessions/{session}"),
    ("POST", "/api/feedback"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.openapi.OpenApiSchema]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    with Index.build(CORPUS, folder / "index", embedder=models.WordEmbedder()) as index:
        app = create_app(Assistant(index, "extractive", sessions=folder / "sessions.sqlite"))
        from fastapi.testclient import TestClient

        with TestClient(app):  # the lifespan runs for as long as requests are made
            yield schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_breaks_it(schema: schemathesis.openapi.OpenApiSchema, method: str, path: str) -> None:
    operation = schema[path][method]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def send(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(schemathesis.GenerationMode)))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.call_and_validate(headers={"Host": "localhost"}, checks=CHECKS)

    send()


def test_every_operation_is_tried(schema: schemathesis.openapi.OpenApiSchema) -> None:
    listed = {(one.ok().method.upper(), one.ok().path) for one in schema.get_all_operations()}
    assert listed - {("GET", "/readyz")} == set(OPERATIONS)
