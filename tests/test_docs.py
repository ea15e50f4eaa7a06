"""What the README and docs/ say is what the code does."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_command_and_its_help_is_in_the_docs() -> None:
    spec = importlib.util.spec_from_file_location("write_commands", ROOT / "docs" / "write_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == module.page(), "run: python docs/write_commands.py"


def test_the_readme_session_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    session = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert len([line for line in session.splitlines() if line.strip()]) <= 6
    topics = tmp_path / "corpora" / "topics" / "travel"
    topics.mkdir(parents=True)
    for name in ("northern-lights.md", "jet-lag.md", "venice.md"):
        shutil.copy(ROOT / "corpora" / "topics" / "travel" / name, topics)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:rag_chat", "-c", session],
        cwd=tmp_path,
        env={"RAG_CHAT_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert "topics/travel/northern-lights.md" in done.stdout


def test_every_relative_link_of_the_readme_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / link).exists(), link
