"""The command line, run inside this process on a tiny index, with the reader that needs no model."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from rag_chat.assistant import Assistant
from rag_chat.commands import cli
from rag_chat.commands.chatting import Talk
from rag_chat.commands.doctor import _EXTRAS
from rag_chat.commands.printing import clean, json_line
from rag_chat.types import Generated, Prompt, Turn

if TYPE_CHECKING:
    from rag_chat.index.embedding import SentenceTransformerEmbedder
    from rag_chat.retrieval.index import Index

Run = Callable[..., Result]
Words = tuple[str, ...]

ANSWER_KEYS = "answer abstained reason query citations passages model session timings_ms unsupported".split()
CITATION_KEYS = "passage_id source title quote start end score".split()
PASSAGE_KEYS = "passage_id source title text score".split()
SEARCH_KEYS = "rank passage_id source title text score kind metadata".split()
REPORT_KEYS = "added updated unchanged removed skipped passages seconds".split()
INFO_KEYS = (
    "passages documents dialogues embedder dimension index_type format_version generation bytes".split()
)
EGGS = "How long do I boil an egg?"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAG_CHAT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAG_CHAT_HOME", str(tmp_path / "home"))


@pytest.fixture
def run() -> Run:
    def invoke(*args: object, stdin: str | None = None, status: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result

    return invoke


@pytest.fixture
def folder(tiny_index: Index) -> Path:
    """A shared index: read it only."""
    return tiny_index.path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two documents and one file that cannot be read."""
    place = tmp_path / "topics"
    place.mkdir()
    (place / "eggs.md").write_text("Boil an egg for six minutes.\n", encoding="utf-8")
    (place / "rice.txt").write_text("Rinse the rice until the water is clear.\n", encoding="utf-8")
    (place / "photo.raw").write_bytes(b"\x00\x01")
    return place


@pytest.fixture
def built(run: Run, corpus: Path, tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder) -> Path:
    run("index", "build", corpus, "-o", tmp_path / "index", "--embedder", tiny_embedder.reference)
    return tmp_path / "index"


def loaded(result: Result) -> Any:
    """Standard output as JSON: it holds nothing else."""
    return json.loads(result.stdout)


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(cli))


# --- Help and the environment ----------------------------------------------------------------------


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, path: tuple[str, ...]) -> None:
    text = run(*path, "--help").stdout
    assert "Usage:" in text
    assert COMMANDS[path].help


def test_every_option_names_its_environment_variable(run: Run) -> None:
    for path, command in COMMANDS.items():
        help_text = " ".join(run(*path, "--help").stdout.split())
        given = [p for p in command.params if isinstance(p, click.Option)]
        assert help_text.count("env var: RAG_CHAT_") == len(given), path


def test_the_environment_stands_in_for_options(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "INDEX": folder,
        "MODEL": "extractive",
        "K": 2,
        "JSON": 1,
        "FILTER": "topic=food",
    }.items():
        monkeypatch.setenv(f"RAG_CHAT_{name}", str(value))
    answer = loaded(run("ask", EGGS))
    assert len(answer["passages"]) == 2
    assert all(passage["source"].startswith("food/") for passage in answer["passages"])


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("rag-chat, version ")


# --- index -----------------------------------------------------------------------------------------


def test_index_from_build_to_rm(
    run: Run, corpus: Path, tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    place = tmp_path / "index"
    result = run("index", "build", corpus, "-o", place, "--embedder", tiny_embedder.reference, "--json")
    report = loaded(result)
    assert list(report) == REPORT_KEYS
    assert report["added"] == 2
    assert [(Path(one["source"]).name, bool(one["reason"])) for one in report["skipped"]] == [
        ("photo.raw", True)
    ]
    assert "photo.raw: unknown file type" in result.stderr

    assert set(INFO_KEYS) <= set(loaded(run("index", "info", place, "--json")))
    assert "ok" in run("index", "verify", place).stdout
    assert loaded(run("index", "verify", place, "--json"))["ok"] is True
    assert loaded(run("index", "rebuild", place, "--json"))["passages"] == 2

    (corpus / "tea.md").write_text("Steep green tea at 75 degrees.\n", encoding="utf-8")
    assert loaded(run("index", "add", place, corpus, "--json"))["added"] == 1
    assert loaded(run("index", "add", place, corpus, "--json"))["unchanged"] == 3
    (corpus / "rice.txt").unlink()
    assert loaded(run("index", "sync", place, corpus, "--json"))["removed"] == 1

    assert "removed topics/tea.md" in run("index", "rm", place, "topics/tea.md").stdout
    gone = run("index", "rm", place, "topics/tea.md", status=1)
    assert "Nothing was removed" in gone.stderr


def test_building_from_nothing_readable_fails(
    run: Run, corpus: Path, tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    for name in ("eggs.md", "rice.txt"):
        (corpus / name).unlink()
    result = run(
        "index", "build", corpus, "-o", tmp_path / "index", "--embedder", tiny_embedder.reference, status=1
    )
    assert "error: Nothing could be read" in result.stderr


def test_on_error_fail_names_the_place(run: Run, built: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"_id": "1", "text": "fine"}\nnot json\n', encoding="utf-8")
    assert "bad.jsonl, line 2" in run("index", "add", built, bad, "--on-error", "fail", status=1).stderr
    skipped = loaded(run("index", "add", built, bad, "--json"))["skipped"]
    assert [one["line"] for one in skipped] == [2]


def test_columns_map_a_table(run: Run, built: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("name,body\nTea,Steep it at 75 degrees.\n", encoding="utf-8")
    report = loaded(run("index", "add", built, table, "--columns", "text=body,title=name", "--json"))
    assert report["added"] == 1
    assert "Tea (table.csv#" in run("search", built, "steep", "--mode", "lexical").stdout
    run("index", "add", built, table, "--columns", "text", status=2)


# --- search ----------------------------------------------------------------------------------------


def test_search_json(run: Run, folder: Path, tiny_index: Index) -> None:
    found = loaded(run("search", folder, "northern lights", "-k", 3, "--filter", "topic=travel", "--json"))
    hits = tiny_index.search("northern lights", 3, filter={"topic": "travel"})
    assert [one["passage_id"] for one in found] == [hit.passage.id for hit in hits]
    assert all(list(one) == SEARCH_KEYS for one in found)
    assert loaded(run("search", folder, "zzz", "--mode", "lexical", "--json")) == []


@pytest.mark.parametrize(
    "args",
    [
        ["--filter", "topic"],
        ["--filter", "topic=food", "--filter", "topic=travel"],
        ["--filter", "colour=red"],
        ["-k", "0"],
        ["--mode", "psychic"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(run: Run, folder: Path, args: list[str]) -> None:
    assert run("search", folder, "eggs", *args, status=2).stderr


def test_an_unknown_index_is_status_1_and_says_how_to_build_one(run: Run, tmp_path: Path) -> None:
    for args in (["search", tmp_path / "no", "eggs"], ["ask", "eggs", "-i", tmp_path / "no"]):
        result = run(*args, status=1)
        assert result.stdout == ""
        assert result.stderr.startswith("error: There is no index")
        assert "rag-chat index build" in result.stderr


def test_what_documents_say_does_not_move_the_terminal(run: Run, built: Path, tmp_path: Path) -> None:
    text = "Beware \x1b[2Jof \x1b]0;title\x07the \x9b31mdragon\u202e and its cave."
    (tmp_path / "bad.jsonl").write_text(json.dumps({"_id": "1", "text": text}), encoding="utf-8")
    run("index", "add", built, tmp_path / "bad.jsonl")
    printed = run("search", built, "cave", "--mode", "lexical", "--json")
    assert clean(printed.stdout) == printed.stdout
    assert "\x1b[2J" in loaded(printed)[0]["text"]
    shown = run("search", built, "cave", "--mode", "lexical").stdout
    assert clean(shown) == shown
    assert "Beware of the dragon and its cave." in shown


def test_clean_keeps_text_and_json_loses_nothing() -> None:
    assert clean("a\tb\nc\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x07é日") == "a\tb\nc" + "red linké日"
    awkward = "\x1b[0m\x9b\x7f\u202e\ud800é"
    assert json.loads(json_line(awkward)) == awkward
    assert json_line(awkward) == clean(json_line(awkward))


# --- ask -------------------------------------------------------------------------------------------


def test_ask_json_has_the_promised_keys(run: Run, folder: Path) -> None:
    answer = loaded(run("ask", EGGS, "-i", folder, "-m", "extractive", "--json"))
    assert list(answer) == ANSWER_KEYS
    assert answer["model"] == "extractive"
    assert answer["query"] == EGGS
    assert all(list(passage) == PASSAGE_KEYS for passage in answer["passages"])
    assert all(list(citation) == CITATION_KEYS for citation in answer["citations"])
    assert answer["citations"]


def test_ask_prints_the_answer_and_its_numbered_sources(run: Run, folder: Path) -> None:
    text = run("ask", EGGS, "-i", folder, "-m", "extractive", "--show-context").stdout
    answer, blank, first = text.splitlines()[:3]
    assert answer
    assert blank == ""
    assert first.startswith("[1] ")
    assert "Passages:" in text


def test_ask_in_a_session_goes_on_with_it(run: Run, folder: Path) -> None:
    ask = ("ask", "-i", folder, "-m", "extractive", "--session", "trip", "--json")
    run(*ask, "When are the northern lights seen?")
    answer = loaded(run(*ask, "And is it cold then?"))
    assert answer["session"] == "trip"
    assert answer["query"].startswith("When are the northern lights seen?")


@pytest.mark.parametrize(
    "args", [[], ["eggs", "--batch", __file__, "-o", "x"], ["--batch", __file__], ["-o", "x"]]
)
def test_ask_wants_one_question_or_one_batch(run: Run, folder: Path, args: list[str]) -> None:
    run("ask", *args, "-i", folder, status=2)


# --- ask --batch -----------------------------------------------------------------------------------


def question(name: str | int, text: str = EGGS, **more: Any) -> str:
    return json.dumps({"id": name, "messages": [{"role": "user", "content": text}], **more}) + "\n"


def ids(answers: Path) -> list[str | int]:
    return [json.loads(line)["id"] for line in answers.read_text(encoding="utf-8").splitlines()]


def test_batch_answers_and_resumes(run: Run, folder: Path, tmp_path: Path) -> None:
    asked, said = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    batch = ("ask", "--batch", asked, "-o", said, "-i", folder, "-m", "extractive")
    given = [{"text": "The moon is made of rock.", "title": "Moon"}]
    asked.write_text(
        question("a")
        + question(7, "What is the moon made of?", passages=given)
        + question("none", passages=[]),
        encoding="utf-8",
    )
    run(*batch)
    first = said.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["id"] for row in rows] == ["a", 7, "none"]
    assert all(list(row) == ["id", *ANSWER_KEYS] for row in rows)
    assert rows[1]["answer"] == "The moon is made of rock."
    assert rows[1]["citations"][0]["title"] == "Moon"
    assert rows[2]["abstained"]

    run(*batch)
    assert said.read_text(encoding="utf-8") == first
    lines = first.splitlines(keepends=True)
    said.write_text(lines[0] + lines[1][:30], encoding="utf-8")  # a kill in the middle of a line
    assert loaded(run(*batch, "--json")) == {"answered": 2, "answered_before": 1, "skipped": []}
    assert [json.loads(line)["id"] for line in said.read_text(encoding="utf-8").splitlines()] == [
        "a",
        7,
        "none",
    ]


def test_batch_names_bad_lines_and_answers_the_rest(run: Run, folder: Path, tmp_path: Path) -> None:
    asked, said = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    bad = [
        "not json\n",
        "[]\n",
        '{"messages": []}\n',
        '{"id": true, "messages": []}\n',
        '{"id": "b", "messages": []}\n',
        '{"id": "c", "messages": [{"role": "robot", "content": "x"}]}\n',
        '{"id": "d", "messages": [{"role": "assistant", "content": "x"}]}\n',
        question("e", " "),
        question("f", passages="text"),
        question("g", passages=[{"title": "no text"}]),
        question("a"),
        '{"id": "h", "messages": [{"role": "user", "content": "\\ud800"}]}\n',
    ]
    asked.write_bytes(
        (question("a") + "".join(bad)).encode() + b'{"id": "\xff"}\n\n' + question("z").encode()
    )
    result = run("ask", "--batch", asked, "-o", said, "-i", folder, "-m", "extractive", "--json", status=1)
    report = loaded(result)
    assert [one["line"] for one in report["skipped"]] == list(range(2, len(bad) + 3))
    assert ids(said) == ["a", "z"]
    assert "line 2: not valid JSON" in result.stderr
    assert "not valid UTF-8" in result.stderr


@pytest.mark.parametrize("content", ["notes that matter", "notes\n", '{"id": "a"}\n', question("a").strip()])
def test_batch_never_touches_a_file_that_is_something_else(
    run: Run, folder: Path, tmp_path: Path, content: str
) -> None:
    asked, said = tmp_path / "in.jsonl", tmp_path / "notes.txt"
    asked.write_text(question("a"), encoding="utf-8")
    said.write_text(content, encoding="utf-8")
    run("ask", "--batch", asked, "-o", said, "-i", folder, "-m", "extractive", status=2)
    assert said.read_text(encoding="utf-8") == content
    run("ask", "--batch", asked, "-o", asked, "-i", folder, "-m", "extractive", status=2)
    assert asked.read_text(encoding="utf-8") == question("a")


# --- chat and sessions -----------------------------------------------------------------------------


def test_a_piped_chat_reads_like_a_conversation(run: Run, folder: Path) -> None:
    chat = ("chat", "-i", folder, "-m", "extractive")
    asked = f"{EGGS}\n/why\n/sources\n\nIs it soft then?\n/why\n/retry\n/help\n/quit\nnever read\n"
    result = run(*chat, "--session", "eggs", stdin=asked)
    assert "model extractive, session eggs" in result.stderr
    assert f"> {EGGS}\n" in result.stdout
    assert "searched for: Is it soft then?  (weight 0." in result.stdout
    assert result.stdout.count("> Is it soft then?") == 1
    assert "> /retry\n" in result.stdout
    assert "/quit" in result.stdout
    assert "never read" not in result.stdout

    again = run(*chat, "-c", stdin="/why\n")
    assert "session eggs (2 turns so far)" in again.stderr
    assert "Is it soft then?" in again.stdout

    (listed,) = loaded(run("sessions", "list", "--json"))
    assert (listed["id"], listed["turns"], listed["first_question"]) == ("eggs", 2, EGGS)


def test_a_chat_goes_on_after_an_error_and_a_script_fails(run: Run, folder: Path) -> None:
    lines = f"/why\n/nonsense\n/retry\n{EGGS}\n"
    result = run("chat", "-i", folder, "-m", "extractive", stdin=lines, status=1)
    assert "There is no command /nonsense." in result.stderr
    assert "[1] " in result.stdout
    run("chat", "-i", folder, "-c", "--session", "x", status=2)


class Interrupted:
    """A generator that is interrupted in its first answer."""

    name = "interrupted"
    answers = 0

    def prompt(self, turn: Turn) -> Prompt:
        return Prompt(turn.question)

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        return [Generated("Six minutes.") for _ in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        self.answers += 1
        yield f"{turn.passages[0].text.split()[0]} "
        if self.answers == 1:
            raise KeyboardInterrupt
        yield "minutes."


def test_an_interrupt_stops_the_answer_and_not_the_conversation(
    tiny_index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    with Assistant(tiny_index, Interrupted()).session("eggs") as session:
        Talk(session, None).run(iter([EGGS]))
        assert session.history == ()
        Talk(session, None).run(iter([EGGS, "/quit", EGGS]))
        assert len(session.history) == 2
    assert capsys.readouterr().out.count("(stopped)") == 1


def test_a_packaged_reader_that_is_missing_is_not_looked_for_elsewhere(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_chat.generation import seq2seq

    monkeypatch.setattr(seq2seq, "packaged_reader", lambda: tmp_path / "missing")
    result = run("ask", EGGS, "-i", folder, status=1)
    assert "error: The model 'reader' could not be loaded" in result.stderr
    assert "huggingface.co/reader" not in result.stderr


def test_going_on_with_nothing_is_an_error(run: Run, folder: Path) -> None:
    assert "no conversation to go on with" in run("chat", "-i", folder, "-c", status=1).stderr


def test_sessions_are_shown_exported_and_removed(run: Run, folder: Path, tmp_path: Path) -> None:
    assert "No conversations" in run("sessions", "list").stderr
    run("ask", EGGS, "-i", folder, "-m", "extractive", "--session", "eggs")
    assert EGGS in run("sessions", "list").stdout
    assert f"searched for: {EGGS}" in run("sessions", "show", "eggs", "--why").stdout
    shown = loaded(run("sessions", "show", "eggs", "--why", "--json"))
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"]
    assert shown["traces"][0]["hits"]
    trace = shown["traces"][0]
    assert (trace["queries"], trace["settings"]["k"]) == ([{"text": EGGS, "weight": 1.0}], 5)
    assert {"model", "passages", "prompt"} == set(trace["hashes"])
    exported = loaded(run("sessions", "export", "eggs"))
    run("sessions", "export", "eggs", "-o", tmp_path / "eggs.jsonl")
    assert json.loads((tmp_path / "eggs.jsonl").read_text(encoding="utf-8")) == exported
    nowhere = run("sessions", "export", "eggs", "-o", tmp_path / "no" / "eggs.jsonl", status=1)
    assert nowhere.stderr.startswith("error: ")
    assert "passages" not in exported["messages"][1]
    run("sessions", "rm", "eggs")
    for command in ("show", "export", "rm"):
        assert "There is no conversation 'eggs'" in run("sessions", command, "eggs", status=1).stderr


def test_a_conversation_is_replayed_and_what_differs_is_shown(
    run: Run, folder: Path, tiny_embedder: SentenceTransformerEmbedder, tmp_path: Path
) -> None:
    asked = ("ask", "-i", folder, "-m", "extractive", "--session", "eggs")
    run(*asked, EGGS)
    run(*asked, "-k", 2, "And is it soft then?")
    same = loaded(run("replay", "eggs", "-i", folder, "-m", "extractive", "--json"))
    assert same == [{"turn": 1, "differences": []}, {"turn": 2, "differences": []}]
    other = tmp_path / "other"
    (tmp_path / "egg.md").write_text("Boil an egg for nine minutes.")
    run("index", "build", tmp_path / "egg.md", "-o", other, "--embedder", tiny_embedder.reference)
    (turn,) = loaded(run("replay", "eggs", "--turn", "1", "-i", other, "-m", "extractive", "--json"))
    changed = {what: new for what, _, new in turn["differences"]}
    assert {"passages", "answer"} <= set(changed)
    assert changed["answer"] == "Boil an egg for nine minutes."
    assert "was " in run("replay", "eggs", "-i", other, "-m", "extractive").stdout
    run("replay", "eggs", "--turn", "9", "-i", folder, "-m", "extractive", status=1)
    run("replay", "nobody", "-i", folder, "-m", "extractive", status=1)


# --- train -----------------------------------------------------------------------------------------


def test_options_that_do_not_apply_to_a_part_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text("")
    given = ("train", tmp_path / "talk.jsonl", "-i", folder, "-o", tmp_path / "model", "--part")
    told = run(*given, "abstention", "--epochs", 3, "--set", "seed=1", "--force", status=2).stderr
    assert "--part abstention has no use for --epochs, --set, --force." in told
    assert "no use for --base, --lora." in run(*given, "embedder", "--base", "x", "--lora", status=2).stderr
    assert "Unknown setting 'beams'" in run(*given, "embedder", "--set", "beams=2", status=2).stderr


# --- models and doctor -----------------------------------------------------------------------------


def test_models_are_listed_and_described(
    run: Run, tmp_path: Path, tiny_embedder: SentenceTransformerEmbedder
) -> None:
    home = tmp_path / "home" / "models"
    home.mkdir(parents=True)
    (home / "mine").symlink_to(tiny_embedder.reference)
    names = [one["name"] for one in loaded(run("models", "list", "--json"))]
    assert {"extractive", "all-MiniLM-L6-v2", "mine"} <= set(names)
    assert "mine" in run("models", "list").stdout
    facts = loaded(run("models", "info", "mine", "--json"))
    assert facts["architecture"] == "BertModel"
    assert facts["parameters"] == sum(
        tensor.numel() for tensor in tiny_embedder._model[0].auto_model.parameters()
    )
    assert "BertModel" in run("models", "info", tiny_embedder.reference).stdout
    assert "models list" in run("models", "info", "no-such", status=1).stderr


def test_doctor_knows_every_extra() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extras = {name: len(packages) for name, packages in project["optional-dependencies"].items()}
    for name in ("files", "all", "test"):  # made of the others
        del extras[name]
    assert {name: len(modules) for name, modules in _EXTRAS.items()} == extras


def test_doctor_fails_exactly_when_something_is_broken(run: Run) -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    broken = [check for check in report["checks"] if check["status"] == "!!"]
    assert result.exit_code == (1 if broken else 0)
    assert report["ok"] is not bool(broken)
    assert all(check["fix"] for check in broken)
    assert {"sqlite", "data folder", "packaged embedder"} <= {check["name"] for check in report["checks"]}
    assert "sqlite: " in run("doctor", status=result.exit_code).stdout
