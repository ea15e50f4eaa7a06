"""Whatever a file holds, it is reported with its place and reason, and the rest is read."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import zipfile
from pathlib import Path

import docx
import pypdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_chat.corpus import read_sources
from rag_chat.corpus.text import MAX_FILE_BYTES
from rag_chat.errors import CorpusError, MissingExtra
from rag_chat.types import Dialogue, Document, Skipped

GOOD_LINE = b'{"messages": [{"role": "user", "content": "Hi"}]}'
LONG = b"x" * 10_000_000


def chat(**message: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "Hi"} | message]}).encode()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


def docx_with(old: bytes, new: bytes) -> bytes:
    """A Word file whose document.xml has `new` in place of `old`."""
    made, out = io.BytesIO(), io.BytesIO()
    docx.Document().save(made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "word/document.xml":
                content = content.replace(old, new)
            target.writestr(entry.filename, content)
    return out.getvalue()


def blank_pdf(password: str = "") -> bytes:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


BILLION_LAUGHS = b"a: &a [x]\nb: &b [*a, *a]\nconversations: [*b, *b]\n"

BAD_FILES = {
    "utf8.txt": (b"fine\nbad \xff\n", 2, "not valid UTF-8 at byte 9"),
    "utf8.md": (b"\xc3", 1, "not valid UTF-8 at byte 0"),
    "utf8.html": (b"<p>\xe9</p>", 1, "not valid UTF-8 at byte 3"),
    "utf16.txt": ("Hello".encode("utf-16"), 0, "UTF-16"),
    "utf16.jsonl": ("{}\n".encode("utf-16"), 0, "UTF-16"),
    "nul.txt": (b"one\ntwo\0", 2, "NUL byte at byte 7"),
    "empty.txt": (b"", 0, "empty"),
    "empty.pdf": (b"", 0, "empty"),
    "empty.jsonl": (b"", 0, "nothing to read"),
    "empty.csv": (b"", 0, "nothing to read"),
    "header.csv": (b"question,answer\n", 0, "nothing to read"),
    "blank.md": (b" \n\n", 0, "no text"),
    "front.md": (b"---\ntitle: x\n---\n", 0, "no text"),
    "blank.html": (b"<script>x</script>", 0, "no text"),
    "line.txt": (b"one\n" + LONG, 2, "longer than 1 MB"),
    "line.md": (LONG, 1, "longer than 1 MB"),
    "line.jsonl": (LONG, 1, "longer than 1 MB"),
    "line.csv": (LONG, 1, "longer than 1 MB"),
    "broken.pdf": (b"%PDF-1.4\nnonsense", 0, "the PDF is damaged"),
    "noise.pdf": (bytes(range(256)) * 20, 0, "the PDF is damaged"),
    "scanned.pdf": (blank_pdf(), 0, "no text; scanned"),
    "locked.pdf": (blank_pdf("secret"), 0, "the PDF is damaged or protected"),
    "noise.docx": (b"PK\3\4 nonsense", 0, "the Word file is damaged"),
    "other.docx": (zipped(a__txt=b"x"), 0, "the Word file is damaged"),
    "empty.docx": (docx_with(b"", b""), 0, "no text"),
    "bomb.docx": (zipped(word__xml=b"\0" * 30_000_000), 0, "zip bomb"),
    "entity.docx": (
        docx_with(b"<w:document", b'<!DOCTYPE x [<!ENTITY a "b">]><w:document'),
        0,
        "declares a document type",
    ),
    "deep.json": (b"[" * 200_000, 0, "not readable as JSON"),
    "broken.json": (b'{"a": ', 0, "not valid JSON"),
    "package.json": (b'{"name": "x"}', 0, "none of 'messages'"),
    "turns.json": (b'[{"conversations": [{"from": "dog", "value": "x"}]}]', 0, "record 1: turn 1"),
    "laughs.yml": (BILLION_LAUGHS, 1, "aliases are refused"),
    "broken.yml": (b"a: 1\nb: [1, 2\n", 3, "not valid YAML"),
    "deep.yml": (b"[" * 20_000, 1, "nested too deeply"),
    "tagged.yml": (b"a: !!python/object/apply:os.system [ls]\n", 0, "no list of"),
    "other.yaml": (b"- a\n- b\n", 0, "no list of 'conversations:'"),
    "turns.yaml": (b"conversations:\n- just text\n", 0, "conversation 1: it is not a list"),
    "map.yaml": (b"conversations:\n- - a: b\n", 0, "turn 1: the content is text, not an object"),
    "talk.txt": (b"A: hi\nB:\n", 1, "line 2: the content is empty"),
    "field.csv": (b"x" * 200_000, 1, "not readable as CSV"),
    "twice.csv": (b"text,text\na,b\n", 1, "repeated column name"),
}


def reports(path: Path) -> list[Skipped]:
    skipped: list[Skipped] = []
    assert list(read_sources([path], skipped=skipped)) == []
    return skipped


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    content, line, reason = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    [report] = reports(path)
    assert (report.source, report.line) == (str(path), line)
    assert reason in report.reason
    with pytest.raises(CorpusError) as caught:
        list(read_sources([path], on_error="fail"))
    where = f"{path}, line {line}: " if line else f"{path}: "
    assert caught.value.problem == f"{where}{report.reason}."
    assert "--on-error skip" in caught.value.fix


BAD_LINES = {
    "utf8": (b'{"text": "\xff"}', "not valid UTF-8 at byte 10"),
    "nul byte": (b'{"text": "\0"}', "NUL byte at byte 10"),
    "nul escape": (b'{"text": "a\\u0000"}', "NUL character"),
    "surrogate": (b'{"text": "ok \\ud83d"}', "half of a surrogate pair at character 3"),
    "surrogate in a turn": (chat(content="\ud83d"), "half of a surrogate pair"),
    "surrogate in a rewrite": (chat(rewrite="\ud83d"), "half of a surrogate pair"),
    "surrogate in metadata": (b'{"text": "a", "m": "\\udc00"}', "half of a surrogate pair"),
    "json": (b'{"text": "x"', "not valid JSON"),
    "deep": (b'{"text":' + b"[" * 200_000, "not readable as JSON"),
    "digits": (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "not readable as JSON"),
    "not finite": (b'{"text": "x", "n": NaN}', "n is not a finite number"),
    "too long": (b'{"text": "' + LONG + b'"}', "longer than 1 MB"),
    "no object": (b"[1]", "a record is a JSON object, not a list"),
    "no keys": (b'{"a": 1}', "none of 'messages', 'conversations' and 'text'"),
    "text type": (b'{"text": 1}', "'text' is text, not a number"),
    "no text": (b'{"text": " "}', "no text"),
    "null text": (b'{"text": null}', "no text"),
    "title type": (b'{"text": "x", "title": ["y"]}', "'title' is text, not a list"),
    "id type": (b'{"text": "x", "_id": true}', "'_id' is text or a whole number, not true"),
    "metadata type": (b'{"text": "x", "metadata": "y"}', "'metadata' is an object, not text"),
    "no messages": (b'{"messages": []}', "no messages"),
    "messages type": (b'{"messages": {"role": "user"}}', "messages: a list of objects"),
    "message type": (b'{"messages": ["hi"]}', "messages: a list of objects"),
    "role": (chat(role="tool"), "message 1: the role is user, assistant or system, not 'tool'"),
    "role type": (chat(role=None), "message 1: the role is"),
    "content type": (chat(content=None), "message 1: the content is text, not null"),
    "content empty": (chat(content=" "), "message 1: the content is empty"),
    "part": (chat(content=[{"type": "image_url"}]), "a part of the content is not text"),
    "sources": (chat(sources="a"), "'sources' is a list"),
    "abstained": (chat(abstained="no"), "'abstained' is true or false"),
    "passages": (chat(passages=["x"]), "message 1: passages: a list of objects"),
    "passage": (chat(passages=[{"title": "x"}]), "given#0 has no 'text'"),
    "dialogue metadata": (
        b'{"messages": [{"role": "user", "content": "Hi"}], "metadata": [1]}',
        "'metadata' is an object",
    ),
    "sharegpt": (b'{"conversations": [{"from": "human", "value": 1}]}', "turn 1: the content"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_skips_only_itself(tmp_path: Path, case: str) -> None:
    line, reason = BAD_LINES[case]
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD_LINE + b"\n" + line + b"\n" + GOOD_LINE)
    skipped: list[Skipped] = []
    found = list(read_sources([path], skipped=skipped))
    assert [item.id for item in found if isinstance(item, Dialogue)] == ["d.jsonl#1", "d.jsonl#3"]
    [report] = skipped
    assert (report.source, report.line) == (str(path), 2)
    assert reason in report.reason
    with pytest.raises(CorpusError, match=r"line 2: ") as caught:
        list(read_sources([path], on_error="fail"))
    assert caught.value.__cause__ is not None


def test_metadata_of_any_depth_skips_at_most_its_line(tmp_path: Path) -> None:
    depths = range(700, 1100, 5)  # around where the parser, or what reads its result, gives up
    nested = [b'{"text": "x", "m": ' + b'{"a":' * n + b"1" + b"}" * (n + 1) for n in depths]
    (tmp_path / "d.jsonl").write_bytes(b"\n".join([*nested, GOOD_LINE]))
    skipped: list[Skipped] = []
    *documents, last = read_sources([tmp_path / "d.jsonl"], skipped=skipped)
    assert isinstance(last, Dialogue)
    assert len(documents) + len(skipped) == len(nested)
    assert skipped


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"only one\n", "1 cells where the header has 2"),
        (b"a,b,c\n", "3 cells where the header has 2"),
        (b'"a"b,c\n', "not readable as CSV"),
        (b"\xff,b\n", "not valid UTF-8"),
        (b"\0,b\n", "NUL byte"),
        (LONG + b",b\n", "longer than 1 MB"),
        (b"x" * 200_000 + b",b\n", "not readable as CSV: field larger"),
        (b",b\n", "the question: the content is empty"),
        (b"a,\n", "the answer: the content is empty"),
    ],
)
def test_a_bad_row_skips_only_itself(tmp_path: Path, row: bytes, reason: str) -> None:
    path = tmp_path / "faq.csv"
    path.write_bytes(b"question,answer\nq,a\n" + row + b"q,a\n")
    skipped: list[Skipped] = []
    found = list(read_sources([path], skipped=skipped))
    assert [item.id for item in found if isinstance(item, Dialogue)] == ["faq.csv#1", "faq.csv#3"]
    [report] = skipped
    assert report.line == 3
    assert reason in report.reason


def test_a_quote_left_open_is_reported(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text('question,answer\nq,a\nq,"a\n')
    skipped: list[Skipped] = []
    assert len(list(read_sources([tmp_path], skipped=skipped))) == 1
    assert "unexpected end of data" in skipped[0].reason


def test_a_mapped_column_that_is_not_there_is_reported(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    skipped: list[Skipped] = []
    assert not list(read_sources([tmp_path], skipped=skipped, columns={"text": "c"}))
    assert skipped == [Skipped(str(tmp_path / "t.csv"), 1, "there is no column 'c', only a, b")]


def test_ids_repeated_in_a_file_are_reported(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n')
    skipped: list[Skipped] = []
    [document] = read_sources([tmp_path / "d.jsonl"], skipped=skipped)
    assert isinstance(document, Document)
    assert document.text == "x"
    assert (skipped[0].line, "already taken" in skipped[0].reason) == (2, True)


def test_one_bad_file_never_stops_the_rest(tmp_path: Path) -> None:
    for name, (content, _, _) in BAD_FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "zz.txt").write_text("The rest.")
    skipped: list[Skipped] = []
    [document] = read_sources([tmp_path], skipped=skipped)
    assert isinstance(document, Document)
    assert document.text == "The rest."
    assert {Path(one.source).name for one in skipped} == set(BAD_FILES)


def test_a_file_too_large_to_be_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "big.txt").open("wb") as handle:
        handle.truncate(MAX_FILE_BYTES + 1)
    [report] = reports(tmp_path / "big.txt")
    assert "larger than 200 MB" in report.reason


def test_broken_links_and_other_things_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "a.md").symlink_to(tmp_path / "gone.md")
    (tmp_path / "b.md").symlink_to(tmp_path / "b.md")
    os.mkfifo(tmp_path / "c.md")
    assert [report.reason for report in reports(tmp_path)] == [
        "a broken symbolic link",
        "a broken symbolic link",
        "not a regular file",
    ]
    [report] = reports(tmp_path / "c.md")
    assert report.reason == "not a regular file"


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")).write_text("x")
    [report] = reports(tmp_path)
    assert "rename it" in report.reason
    report.source.encode()


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "a.md").write_text("x")
    monkeypatch.setattr(Path, "read_bytes", refuse)  # file modes do not stop root
    [report] = reports(tmp_path / "a.md")
    assert report.reason == "it cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("a.pdf", "pypdf", "pdf"),
        ("a.docx", "docx", "docx"),
        ("a.html", "selectolax.lexbor", "html"),
        ("a.yml", "yaml", "yaml"),
    ],
)
def test_a_missing_extra_names_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_text("x")
    [report] = reports(tmp_path / name)
    assert f"pip install 'rag-chat[{extra}]'" in report.reason
    with pytest.raises(MissingExtra, match=name):
        list(read_sources([tmp_path / name], on_error="fail"))


def test_without_a_list_what_is_skipped_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with caplog.at_level(logging.WARNING):
        assert not list(read_sources([tmp_path / "a.txt"]))
    assert "not valid UTF-8" in caplog.text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.binary(min_size=1, max_size=200),
    suffix=st.sampled_from([".txt", ".md", ".html", ".csv", ".jsonl", ".json", ".yml", ".pdf", ".docx"]),
)
def test_any_bytes_are_read_or_reported(tmp_path: Path, raw: bytes, suffix: str) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(raw)
    skipped: list[Skipped] = []
    assert list(read_sources([path], skipped=skipped)) or skipped
