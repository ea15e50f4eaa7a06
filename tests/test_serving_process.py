"""`rag-chat serve` as a process of its own: offline, from a bundle, ended by a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from serving import CORPUS, PATIENCE, until

from rag_chat.retrieval.index import Index
from rag_chat.serving.bundle import make_bundle

ROOT = Path(__file__).parent.parent


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "cli.py", "--offline", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "RAG_CHAT_HOME": str(home), "TMPDIR": str(home)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.match(r"(http://\S+) serves", line)
            assert found, line + process.stderr.read()
            yield found[1], process
        finally:
            process.kill()


def test_a_bundle_is_served_offline_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Index.build(CORPUS, tmp_path / "index") as index:
        make_bundle(index, "extractive", tmp_path / "bot.zip")
    home = tmp_path / "home"
    home.mkdir()
    with serving(home, str(tmp_path / "bot.zip")) as (address, process):
        until(lambda: httpx.get(f"{address}/readyz", timeout=PATIENCE).status_code == 200)
        asked = {"question": "How long do I boil an egg?"}
        assert httpx.post(f"{address}/api/ask", json=asked, timeout=PATIENCE).json()["citations"]
        assert list(home.glob("rag-chat-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    assert not list(home.glob("rag-chat-*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0", "-i", "index"], "API key"),
        ([], "either an index or a bundle"),
        (["-i", "index", "--allow-origin", "*"], "origin"),
    ],
)
def test_what_is_not_safe_does_not_start(arguments: list[str], said: str) -> None:
    from click.testing import CliRunner

    from rag_chat.commands import cli

    done = CliRunner().invoke(cli, ["serve", *arguments])
    assert done.exit_code == 2
    assert said in done.output
