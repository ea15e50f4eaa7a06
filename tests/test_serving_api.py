"""The server's own API, through HTTP, with an extractive reader over a small index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import models
import pytest
from fastapi.testclient import TestClient
from serving import CORPUS

from rag_chat.assistant import Assistant
from rag_chat.retrieval.index import Index
from rag_chat.serving.app import create_app
from rag_chat.serving.settings import ServingSettings


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("served") / "index"
    with Index.build(CORPUS, folder, embedder=models.WordEmbedder()) as index:
        yield index


@pytest.fixture
def client(index: Index, tmp_path: Path) -> Iterator[TestClient]:
    bot = Assistant(index, "extractive", sessions=tmp_path / "sessions.sqlite")
    app = create_app(bot, ServingSettings(feedback=tmp_path / "feedback"))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def events(text: str) -> list[tuple[str, object]]:
    """The events of a stream, as a browser would read them."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_a_conversation_from_beginning_to_end(client: TestClient) -> None:
    session = client.post("/api/sessions").json()["id"]
    assert client.get(f"/api/sessions/{session}").status_code == 404  # nothing asked yet
    asked = {"question": "How long do I boil an egg?", "session": session}
    answer = client.post("/api/ask", json=asked).json()
    assert answer["answer"] == "Boil an egg for six minutes."
    assert answer["session"] == session
    (listed,) = client.get("/api/sessions").json()["sessions"]
    assert (listed["id"], listed["turns"]) == (session, 1)
    shown = client.get(f"/api/sessions/{session}").json()
    assert [turn["question"] for turn in shown["turns"]] == [asked["question"]]
    assert shown["turns"][0]["citations"] == answer["citations"]
    assert client.delete(f"/api/sessions/{session}").status_code == 204
    assert client.get(f"/api/sessions/{session}").status_code == 404
    assert client.get("/api/sessions").json() == {"sessions": []}


def test_a_stream_ends_with_the_answer_that_is_kept(client: TestClient) -> None:
    session = client.post("/api/sessions").json()["id"]
    body = {"question": "Where does Tromsø lie?", "session": session, "stream": True}
    response = client.post("/api/ask", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, (name, answer) = events(response.text)
    assert name == "answer"
    assert isinstance(answer, dict)
    assert "".join(piece["text"] for _, piece in pieces) == answer["answer"] == "Tromsø lies in Norway."  # type: ignore[index]
    kept = client.get(f"/api/sessions/{session}").json()["turns"]
    assert kept[0]["answer"] == answer["answer"]


def test_a_citation_opens_its_passage(client: TestClient) -> None:
    (cited,) = client.post("/api/ask", json={"question": "Where does Tromsø lie?"}).json()["citations"]
    passage = client.get(f"/api/passages/{quote(cited['passage_id'], safe='')}").json()
    begin, end = cited["start"] - passage["start"], cited["end"] - passage["start"]
    assert passage["text"][begin:end] == cited["quote"] == "Tromsø lies in Norway."
    assert client.get("/api/passages/none").status_code == 404


def test_long_conversations_come_in_parts(client: TestClient) -> None:
    session = client.post("/api/sessions").json()["id"]
    for n in range(5):
        client.post("/api/ask", json={"question": f"How long do I boil {n} eggs?", "session": session})
    last = client.get(f"/api/sessions/{session}?limit=2").json()
    assert ([turn["turn"] for turn in last["turns"]], last["more"]) == ([4, 5], True)
    first = client.get(f"/api/sessions/{session}?before=4").json()
    assert ([turn["turn"] for turn in first["turns"]], first["more"]) == ([1, 2, 3], False)


def test_search_is_the_index_search(client: TestClient, index: Index) -> None:
    found = client.get("/api/search", params={"q": "boil an egg", "k": 2, "mode": "lexical"}).json()
    assert [hit["passage_id"] for hit in found["hits"]] == [
        hit.passage.id for hit in index.search("boil an egg", 2, mode="lexical")
    ]
    filtered = client.get("/api/search", params={"q": "Norway", "filter": "topic=food"}).json()
    assert {hit["source"] for hit in filtered["hits"]} == {"food/eggs.md"}
    for bad in ({"q": " "}, {"q": "x", "k": 0}, {"q": "x", "filter": "a"}, {"q": "x", "filter": "no=1"}):
        response = client.get("/api/search", params=bad)
        assert response.status_code == 400
        assert response.json()["error"]["message"]


def test_ratings_are_cases_for_an_evaluation(client: TestClient, tmp_path: Path) -> None:
    session = client.post("/api/sessions").json()["id"]
    client.post("/api/ask", json={"question": "How long do I boil an egg?", "session": session})
    rating = {"session": session, "turn": 1, "rating": "up"}
    assert client.post("/api/feedback", json=rating).status_code == 204
    (line,) = (tmp_path / "feedback" / "up.jsonl").read_text().splitlines()
    case = json.loads(line)
    assert [message["role"] for message in case["messages"]] == ["user", "assistant"]
    assert case["messages"][1]["sources"] == ["food/eggs.md"]
    assert client.post("/api/feedback", json=rating | {"rating": "down", "comment": "no"}).status_code == 204
    assert (tmp_path / "feedback" / "up.jsonl").read_text() == ""
    assert json.loads((tmp_path / "feedback" / "down.jsonl").read_text())["metadata"]["comment"] == "no"
    assert client.post("/api/feedback", json=rating | {"turn": 2}).status_code == 404


def test_ratings_are_kept_whatever_was_said(client: TestClient, tmp_path: Path) -> None:
    for question in ("How long do I\u2028boil an egg?", "How long\x85do I boil an egg?"):
        session = client.post("/api/sessions").json()["id"]
        client.post("/api/ask", json={"question": question, "session": session})
        rating = {"session": session, "turn": 1, "rating": "up"}
        assert client.post("/api/feedback", json=rating).status_code == 204
    kept = (tmp_path / "feedback" / "up.jsonl").read_text(encoding="utf-8").split("\n")
    assert len([json.loads(line) for line in kept if line]) == 2


def test_a_damaged_conversation_is_not_called_absent(client: TestClient, tmp_path: Path) -> None:
    session = client.post("/api/sessions").json()["id"]
    client.post("/api/ask", json={"question": "How long do I boil an egg?", "session": session})
    (tmp_path / "sessions.sqlite").write_bytes(b"no database")
    rating = {"session": session, "turn": 1, "rating": "up"}
    assert client.post("/api/feedback", json=rating).status_code == 500


def test_the_conversations_of_another_browser_do_not_exist(client: TestClient) -> None:
    session = client.post("/api/sessions").json()["id"]
    client.post("/api/ask", json={"question": "Where does Tromsø lie?", "session": session})
    client.cookies.clear()
    assert client.get("/api/sessions").json() == {"sessions": []}
    assert client.get(f"/api/sessions/{session}").status_code == 404
    assert client.delete(f"/api/sessions/{session}").status_code == 404
    rating = {"session": session, "turn": 1, "rating": "up"}
    assert client.post("/api/feedback", json=rating).status_code == 404


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
