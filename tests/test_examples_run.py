"""The programs in examples/ do what they say, with the packaged embedder and a reader without a model."""

from __future__ import annotations

import importlib.util
import io
import runpy
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import models
import pytest
from conftest import tiny_documents
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

from rag_chat import Index

ROOT = Path(__file__).parent.parent
LIGHTS = ROOT / "corpora" / "topics" / "travel" / "northern-lights.md"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_app_is_twelve_lines_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testclient = pytest.importorskip("fastapi.testclient", reason="needs rag-chat[serve]")
    code = (ROOT / "examples" / "fastapi_app.py").read_text("utf-8").split('"""')[2]
    assert len([line for line in code.splitlines() if line]) <= 12
    Index.build([LIGHTS], tmp_path / "index").close()
    monkeypatch.setenv("RAG_CHAT_INDEX", str(tmp_path / "index"))
    monkeypatch.setenv("RAG_CHAT_MODEL", "extractive")
    with testclient.TestClient(load("fastapi_app").app) as client:
        reply = client.get("/ask", params={"question": "When is the northern lights season?"}).json()
    assert "September to March" in reply["answer"]
    assert reply["sources"] == ["northern-lights.md"]


def test_the_terminal_example_holds_a_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_CHAT_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["terminal.py", str(LIGHTS), "extractive"])
    monkeypatch.setattr("sys.stdin", io.StringIO("When is the northern lights season?\nAnd in summer?\n\n"))
    runpy.run_path(str(ROOT / "examples" / "terminal.py"), run_name="__main__")
    first, second = capsys.readouterr().out.split("> ")[1:3]
    assert "September to March" in first
    assert '[northern-lights.md] "' in first
    assert "too bright to see them" in second


class ToolCaller(BaseChatModel):
    """Searches for the question once, then says what it was shown."""

    @property
    def _llm_type(self) -> str:
        return "tool-caller"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tool=tools[0].name)

    def _generate(self, messages: list[BaseMessage], *_: Any, tool: str, **__: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            reply = AIMessage(f"It says: {last.text}")
        else:
            call = {"name": tool, "args": {"query": str(last.text)}, "id": "1"}
            reply = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=reply)])


def test_the_agent_answers_from_the_index(tmp_path: Path) -> None:
    with Index.build(tiny_documents(), tmp_path / "index", embedder=models.WordEmbedder()) as index:
        said = load("langchain_agent").answer(ToolCaller(), "How long do I boil an egg?", index)
    assert said.startswith("It says: Boil an egg for six minutes.")
