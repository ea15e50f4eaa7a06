"""The command line as its own process: what it imports, how it ends, and that --offline holds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rag_chat.retrieval.index import Index

ROOT = Path(__file__).parent.parent
CLI = str(ROOT / "cli.py")
HEAVY = ("torch", "transformers", "sentence_transformers", "langchain", "langchain_core")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAG_CHAT_")}
    return {**kept, "RAG_CHAT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(command: list[str], environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=environment, input=stdin, capture_output=True, text=True, check=False
    )


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run(["-c", code], environment)


def rag_chat(*args: str, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run([CLI, *args], environment, stdin)


def test_help_and_lexical_search_load_no_model_library(
    environment: dict[str, str], tiny_index: Index
) -> None:
    for args in (["--help"], ["search", str(tiny_index.path), "egg", "--mode", "lexical"]):
        code = f"""
import sys
from rag_chat.commands import cli
cli({args!r}, standalone_mode=False)
sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or ''))
"""
        result = python(code, environment)
        assert result.stderr.strip() == "", args
        assert result.stdout


def test_a_conversation_through_a_pipe(environment: dict[str, str], tiny_index: Index) -> None:
    result = rag_chat(
        "chat", "-i", str(tiny_index.path), "-m", "extractive",
        stdin="When are the northern lights seen?\nAnd is it cold then?\n/why\n",
        environment=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "> And is it cold then?" in result.stdout
    searched = [line for line in result.stdout.splitlines() if line.startswith("searched for: ")]
    assert searched[0].startswith("searched for: And is it cold then?")
    assert any("When are the northern lights seen?" in line for line in searched[1:])
    assert len(result.stderr.splitlines()) == 1, "only the greeting: no warnings of other libraries"


def test_offline_is_enforced(environment: dict[str, str]) -> None:
    """A connection to this machine works; one to another machine is refused before a packet leaves."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
from rag_chat.commands import cli
from rag_chat.errors import RagChatError
cli(["--offline", "models", "list"], standalone_mode=False)
socket.create_connection(("localhost", {port})).close()
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
    lambda: socket.getaddrinfo("example.com", 443),
    lambda: socket.gethostbyname("example.com"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
):
    try:
        attempt()
    except RagChatError as error:
        assert "--offline" in str(error)
    else:
        raise SystemExit("it was not refused")
import os
assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
"""
        result = python(code, environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_refuses_downloads_and_remote_models(
    environment: dict[str, str], tiny_index: Index, by_environment: bool
) -> None:
    if by_environment:
        environment["RAG_CHAT_OFFLINE"] = "1"
    flag = [] if by_environment else ["--offline"]  # after the command, where people type it
    download = rag_chat("models", "download", "google/flan-t5-small", *flag, environment=environment)
    assert (download.returncode, "--offline" in download.stderr) == (1, True)
    remote = rag_chat(
        "ask", "Why?", "-i", str(tiny_index.path), "-m", "openai:gpt-5-mini", *flag, environment=environment
    )
    assert (remote.returncode, "--offline" in remote.stderr) == (2, True)


def test_a_reader_that_has_seen_enough_is_no_error(environment: dict[str, str], tiny_index: Index) -> None:
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "search",
        str(tiny_index.path),
        "the egg",
        "--mode",
        "lexical",
    ]
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = subprocess.run(
            command, env=environment, stdout=write_end, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write_end)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_an_interrupt_ends_quietly(environment: dict[str, str], tiny_index: Index) -> None:
    command = [sys.executable, CLI, "chat", "-i", str(tiny_index.path), "-m", "extractive"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stderr is not None
        assert "session" in process.stderr.readline()  # greeted: it waits for a question
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
