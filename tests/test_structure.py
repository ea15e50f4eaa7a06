"""The shape of the house: imports point one way, modules fit in the head, importing is light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rag_chat

LIBRARY = Path(rag_chat.__file__).parent
ROOT = LIBRARY.parent
MODULES = sorted(LIBRARY.rglob("*.py"))
MAX_LINES = 320
HEAVY = {"torch", "transformers", "faiss", "sentence_transformers", "langchain", "onnxruntime"}
UNSAFE = {
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
}  # run code when they load

# A part may import parts of lower rank, and itself; parts of one rank do not know each other.
RANKS = {
    name: rank
    for rank, names in enumerate(
        [
            ["errors", "types"],
            ["config"],
            ["corpus"],
            ["index"],
            ["retrieval", "generation"],
            ["conversation"],
            ["assistant"],
            ["evaluation"],
            ["training"],
            ["langchain", "serving", "scale"],
            ["commands"],
        ]
    )
    for name in names
}

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))


def part_of(path: Path) -> str:
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, also inside functions; relative imports begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def wrong_way(part: str, source: str) -> list[str]:
    """What a module of `part` imports though it must not."""
    wrong = []
    for name in imported_names(ast.parse(source)):
        if name == "rag_chat.__version__" or not name.startswith((".", "rag_chat.")):
            continue
        target = name.split(".")[1]
        if name.startswith(".") or (target != part and RANKS.get(target, 99) >= RANKS[part]):
            wrong.append(name)
    return wrong


@every_module
def test_imports_point_one_way(path: Path) -> None:
    if path == LIBRARY / "__init__.py":  # imports nothing until a name is used
        return
    assert part_of(path) in RANKS, "a new part needs its place in RANKS, and in the design"
    assert wrong_way(part_of(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("part", "source", "wrong"),
    [
        ("retrieval", "from rag_chat.generation import prompt", ["rag_chat.generation.prompt"]),
        ("generation", "def f():\n    import rag_chat.retrieval.index", ["rag_chat.retrieval.index"]),
        ("corpus", "from rag_chat import index", ["rag_chat.index"]),
        ("corpus", "from rag_chat import Index", ["rag_chat.Index"]),
        ("corpus", "from .text import read_text", [".text.read_text"]),
        ("corpus", "from rag_chat.corpus.text import read_text\nfrom rag_chat.types import Hit", []),
        ("commands", "from rag_chat import __version__\nimport click", []),
    ],
)
def test_the_import_test_finds_what_it_should(part: str, source: str, wrong: list[str]) -> None:
    assert wrong_way(part, source) == wrong


@every_module
def test_modules_fit_in_the_head(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
    assert path.stem not in {"utils", "util", "helpers", "misc"}


@every_module
def test_library_prints_nothing_and_unpickles_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not UNSAFE & {name.split(".")[0] for name in imported_names(tree)}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert "torch.load" not in calls
    assert "print" not in calls or part_of(path) == "commands"


def test_import_is_light() -> None:
    script = (
        "import json, sys, time; start = time.process_time(); import rag_chat;"
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    runs = []
    for _ in range(3):
        output = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT)
        runs.append(json.loads(output))
    assert not HEAVY & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 0.3


def test_public_names_are_sorted_and_have_one_home() -> None:
    assert rag_chat.__all__ == sorted(rag_chat.__all__)
    assert set(rag_chat._HOME) | {"__version__"} == set(rag_chat.__all__)
    tree = ast.parse((LIBRARY / "__init__.py").read_text("utf-8"))
    for type_checkers_see in imported_names(tree):
        if type_checkers_see.startswith("rag_chat."):
            home, name = type_checkers_see.rsplit(".", 1)
            assert rag_chat._HOME[name] == home


@pytest.mark.parametrize("name", rag_chat.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(rag_chat, name) is not None
    assert name in dir(rag_chat)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="Assistent"):
        _ = rag_chat.Assistent  # type: ignore[attr-defined]


def test_version_is_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{rag_chat.__version__}"\n' in project


def test_no_file_names_a_place_on_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    place = re.compile(rb"(?<![\w.~-])/(?:work|root)/")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    found = [str(file) for file in files if file.is_file() and _mentions(place, file.read_bytes())]
    assert found == []


def _mentions(place: re.Pattern[bytes], content: bytes) -> bool:
    return b"\0" not in content and place.search(content) is not None
