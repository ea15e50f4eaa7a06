"""Who may come in, as whom, and what a server refuses before it reads it."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import models
import pytest
from fastapi.testclient import TestClient
from serving import CORPUS, Echo, served, under_way, until

from rag_chat.assistant import Assistant
from rag_chat.errors import UsageError
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app
from rag_chat.serving.run import bind
from rag_chat.serving.settings import ServingSettings

KEY, OTHER = "k" * 32, "o" * 32
SITE = "https://www.example.com"
Opened = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("guarded") / "index"
    with Index.build(CORPUS, folder, embedder=models.WordEmbedder()) as index:
        yield index


@pytest.fixture
def opened(index: Index, tmp_path: Path) -> Opened:
    @contextmanager
    def open_client(base_url: str = "http://localhost", **settings: object) -> Iterator[TestClient]:
        bot = Assistant(index, Echo(), sessions=tmp_path / "sessions.sqlite")
        app = create_app(bot, ServingSettings(**settings))  # type: ignore[arg-type]
        with TestClient(app, base_url=base_url) as client:
            yield client

    return open_client


def test_a_key_is_asked_for(opened: Opened) -> None:
    with opened(api_keys=(KEY, OTHER)) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
            response = client.post("/api/ask", content=b"not json", headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
        for path in ("/v1/models", "/metrics", "/openapi.json", "/api/sessions"):
            assert client.get(path).status_code == 401
            for key in (KEY, OTHER):
                assert client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code in (200, 503)


def test_the_key_is_checked_before_a_byte_of_the_body_is_there(index: Index) -> None:
    with served(create_app(Assistant(index, Echo()), ServingSettings(api_keys=(KEY,)))) as address:
        assert _answer_to_a_head(address, 30_000_000).status == 401
        assert _answer_to_a_head(address, 100).status == 401


def test_holders_of_keys_do_not_see_each_other(opened: Opened) -> None:
    with opened(api_keys=(KEY, OTHER)) as client:
        mine, other = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER))
        session = client.post("/api/sessions", headers=mine).json()["id"]
        asked = {"question": "Boiled eggs?", "session": session}
        assert client.post("/api/ask", json=asked, headers=mine).status_code == 200
        assert "set-cookie" not in client.get("/api/sessions", headers=mine).headers
        assert client.get(f"/api/sessions/{session}", headers=other).status_code == 404
        assert client.get(f"/api/sessions/{session}", headers=mine).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("chat.example.com", 200),
        ("evil.example.com", 400),
        ("localhost.evil.com", 400),
        ("localhost@evil.com", 400),
        ("", 400),
    ],
)
def test_only_its_own_names_reach_the_server(opened: Opened, host: str, status: int) -> None:
    with opened(hosts=("chat.example.com",)) as client:
        assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_pages_of_other_sites_are_refused_unless_they_are_listed(opened: Opened) -> None:
    with opened() as client:
        assert client.post("/api/sessions", headers={"Origin": SITE}).status_code == 403
        assert client.post("/api/sessions", headers={"Origin": "http://localhost"}).status_code == 201
        assert "access-control-allow-origin" not in client.get("/healthz", headers={"Origin": SITE}).headers
    with opened(origins=(SITE,)) as client:
        response = client.post("/api/sessions", headers={"Origin": SITE})
        assert response.headers["access-control-allow-origin"] == SITE
        assert "access-control-allow-credentials" not in response.headers
        preflight = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
        preflight["Access-Control-Request-Headers"] = "content-type,x-rag-chat-visitor"
        assert client.options("/api/ask", headers=preflight).status_code == 200
        other = preflight | {"Origin": "https://evil.example.com"}
        assert client.options("/api/ask", headers=other).status_code == 400


def test_the_visitors_of_a_listed_site_are_told_apart(opened: Opened) -> None:
    with opened(origins=(SITE,)) as client:
        one, two = ({"Origin": SITE, "X-Rag-Chat-Visitor": digit * 32} for digit in "12")
        session = client.post("/api/sessions", headers=one).json()["id"]
        client.post("/api/ask", json={"question": "Boiled eggs?", "session": session}, headers=one)
        assert client.get(f"/api/sessions/{session}", headers=one).status_code == 200
        assert client.get(f"/api/sessions/{session}", headers=two).status_code == 404
        elsewhere = one | {"Origin": "http://localhost"}  # there the header counts for nothing
        assert client.get(f"/api/sessions/{session}", headers=elsewhere).status_code == 404


def test_a_browser_is_known_by_a_cookie_that_scripts_and_other_sites_do_not_get(opened: Opened) -> None:
    with opened() as client:
        cookie = client.post("/api/sessions").headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert "set-cookie" not in client.post("/api/sessions").headers  # it has one now
        assert "set-cookie" not in client.get("/healthz").headers
        client.cookies.clear()
        client.cookies.set("rag_chat_owner", "guess")
        assert "set-cookie" in client.post("/api/sessions").headers


def test_what_every_response_carries(opened: Opened) -> None:
    with opened() as client:
        for path in ("/healthz", "/api/sessions", "/v1/models", "/none", "/api/passages/none"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert headers["x-content-type-options"] == "nosniff"
        assert client.get("/api/sessions").headers["cache-control"] == "no-store"
        for path in ("/docs", "/redoc"):  # their assets would be remote
            assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd", "/static/../app.py"]
)
def test_no_file_outside_of_the_page_is_served(opened: Opened, path: str) -> None:
    with opened() as client:
        request = client.build_request("GET", "http://localhost/")
        request.url = httpx.URL("http://localhost").copy_with(raw_path=path.encode())
        response = client.send(request)
        assert response.status_code in (404, 405)
        assert "create_app" not in response.text


def test_a_server_for_others_needs_keys() -> None:
    with pytest.raises(UsageError, match="API key"):
        bind("0.0.0.0", 0, ServingSettings())
    with pytest.raises(UsageError, match="shorter"):
        ServingSettings(api_keys=("short",))
    with pytest.raises(UsageError, match="origin"):
        ServingSettings(origins=("*",))
    listening, settings = bind("127.0.0.1", 0, ServingSettings())
    with listening:  # who comes before the server runs waits, and is not turned away
        socket.create_connection(listening.getsockname(), timeout=20).close()
    assert settings.hosts == ("127.0.0.1",)


def test_a_body_of_thirty_megabytes_is_refused_before_it_is_read(index: Index) -> None:
    with served(create_app(Assistant(index, Echo()))) as address:
        place = address.removeprefix("http://")
        assert _answer_to_a_head(address, 30_000_000).status == 413
        connection = http.client.HTTPConnection(place, timeout=20)
        chunks = (b"x" * 100_000 for _ in range(300))
        sent = 0

        def counted() -> Iterator[bytes]:
            nonlocal sent
            for chunk in chunks:
                sent += len(chunk)
                yield chunk

        try:
            connection.request("POST", "/api/ask", counted(), {"Content-Type": "application/json"})
            assert connection.getresponse().status == 413
        except (BrokenPipeError, ConnectionResetError):  # it hung up while we were sending
            assert sent < 30_000_000
        connection.close()


def _answer_to_a_head(address: str, length: int) -> http.client.HTTPResponse:
    """What is answered to a request of which only the head is sent."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/api/ask")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    with contextlib.closing(connection):
        response = connection.getresponse()
        assert b'"error"' in response.read()
        return response


def test_a_body_that_trickles_in_is_not_waited_for(index: Index) -> None:
    app = create_app(Assistant(index, Echo()), ServingSettings(body_seconds=0.3))
    with served(app) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            head = f"POST /api/ask HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_logs_hold_no_keys_and_no_prompts(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"Authorization": f"Bearer {KEY}"}
    with opened(api_keys=(KEY,)) as client:
        session = client.post("/api/sessions", headers=secret).json()["id"]
        asked = {"question": "zanzibar?", "session": session}
        client.post("/api/ask", json=asked, headers=secret)
        client.get("/api/search", params={"q": "zanzibar"}, headers=secret)
        client.post("/v1/chat/completions", json={"messages": "zanzibar"}, headers=secret)
        client.get(f"/api/sessions/{session}", headers=secret)
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("rag_chat", "uvicorn"))
    ]
    assert any("/api/sessions/{session}" in line for line in ours)
    assert not any(word in line for line in ours for word in ("zanzibar", KEY, session))
    with opened(log_prompts=True) as client:
        client.post("/api/ask", json={"question": "zanzibar?"})
    assert "zanzibar" in caplog.text


def test_metrics_count_by_route(opened: Opened) -> None:
    with opened() as client:
        client.post("/api/ask", json={"question": "Boiled eggs?"})
        client.get("/api/passages/none")
        for n in range(3):
            client.request(f"METHOD{n}", "/api/ask")
        text = client.get("/metrics").text
    assert 'rag_chat_requests_total{method="POST",route="/api/ask",status="200"} 1.0' in text
    assert 'route="/api/passages/{passage_id:path}",status="404"' in text
    assert 'rag_chat_answers_total{outcome="answered"} 1.0' in text
    assert 'method="other"' in text
    assert "METHOD" not in text


def test_ten_thousand_requests_take_turns_and_nothing_leaks(index: Index) -> None:
    """A quick version: 300 requests by six clients; `-m slow` makes it 10,000."""
    _interleaved(index, 300)


@pytest.mark.slow
def test_ten_thousand_requests_in_full(index: Index) -> None:
    _interleaved(index, 10_000)


def _interleaved(index: Index, count: int) -> None:
    """Six clients ask at once, each in its own conversation, and see their own words only."""
    wrong: list[str] = []
    with served(create_app(Assistant(index, Echo(), sessions=index.path.parent / "s.sqlite"))) as address:

        def client(name: int) -> None:
            with httpx.Client(base_url=address, timeout=60) as http_client:
                session = http_client.post("/api/sessions").json()["id"]
                for turn in range(count // 6):
                    question = f"Does client {name} boil {turn} eggs?"
                    body = {"question": question, "stream": turn % 2 == 0}
                    body |= {"session": session} if turn % 10 == 0 else {}
                    said = http_client.post("/api/ask", json=body).text
                    if f'"answer": "{question}"' not in said and f'"answer":"{question}"' not in said:
                        wrong.append(said)
                kept = http_client.get(f"/api/sessions/{session}?limit=1000").json()["turns"]
                wrong.extend(t["answer"] for t in kept if f"client {name} " not in t["answer"])

        threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: under_way(address) == 0)
    assert wrong == []
