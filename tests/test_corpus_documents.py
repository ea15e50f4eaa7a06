"""Topic documents of every format, their identities, titles and topics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import docx
import pytest

from rag_chat.corpus import read_sources
from rag_chat.errors import CorpusError, UsageError
from rag_chat.types import Dialogue, Document, Skipped


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def documents(*sources: Path | str) -> list[Document]:
    found = list(read_sources(sources, on_error="fail"))
    assert all(isinstance(item, Document) for item in found)
    return [item for item in found if isinstance(item, Document)]


def pdf(*pages: str) -> bytes:
    """A PDF with one line of text a page."""
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(len(pages)))
    font = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
    ]
    for i, text in enumerate(pages):
        stream = f"BT /F 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {font} "
            f"/Contents {4 + 2 * i} 0 R >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        out
        + (
            f"xref\n0 {size}\n0000000000 65535 f \n{table}"
            f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
        ).encode()
    )


def test_plain_text_is_kept_exact_but_for_mark_and_line_ends(tmp_path: Path) -> None:
    file = write(tmp_path / "food" / "green-tea_notes.txt", b"\xef\xbb\xbfTea \r\n\r\n  is\tgreen.\n")
    [document] = documents(file)
    assert document == Document(
        "green-tea_notes.txt", "Tea \n\n  is\tgreen.\n", "Green tea notes", {"topic": "food"}
    )


@pytest.mark.parametrize(
    ("content", "title", "metadata", "text"),
    [
        ("# Pizza #\n\nDough.", "Pizza", {"topic": "food"}, "# Pizza #\n\nDough."),
        ("Dough.\n## Sub", "My file", {"topic": "food"}, "Dough.\n## Sub"),
        ("```\n# code\n```\n# Real", "Real", {"topic": "food"}, "```\n# code\n```\n# Real"),
        (
            "---\ntitle: 'A: B'\ntopic: travel\ntags: [a, \"b\"]\nmore:\n  - x\n  - y\n---\nBody",
            "A: B",
            {"topic": "travel", "tags": "a, b", "more": "x, y"},
            "Body",
        ),
        (
            "---\ncategory: sport\n---\n# T\nB",
            "T",
            {"topic": "sport", "category": "sport"},
            "# T\nB",
        ),
        ("---\nno end", "My file", {"topic": "food"}, "---\nno end"),
    ],
)
def test_markdown(tmp_path: Path, content: str, title: str, metadata: dict[str, str], text: str) -> None:
    write(tmp_path / "food" / "my-file.md", content)
    [document] = documents(tmp_path / "food")
    assert document == Document("food/my-file.md", text, title, metadata)


def test_html_keeps_what_is_visible_with_headings_as_markdown(tmp_path: Path) -> None:
    page = """<html><head><title> The
    Alps </title><style>p {}</style></head><body><!-- no --><h1>Alps</h1>
    <p>High &amp; <b>cold</b>.</p>Loose<script>evil()</script> text<br>next
    <h2><a href="#">In <i>winter</i></a></h2><ul><li><p>Snow</p></li><li>Ice</li></ul>
    <p hidden>secret</p><div style="display:none">gone</div>
    <table><tr><th>Peak</th><th>m</th></tr><tr><td>Dom</td><td>4545</td></tr></table>
    <pre>
# not a heading
  x</pre></body></html>"""
    [document] = documents(write(tmp_path / "alps.HTML", page))
    assert document.title == "The Alps"
    assert document.text.split("\n\n") == [
        "# Alps",
        "High & cold.",
        "Loose text\nnext",
        "## In winter",
        "- Snow",
        "- Ice",
        "Peak | m",
        "Dom | 4545",
        "```\n# not a heading\n  x\n```",
    ]


def test_html_without_a_title_takes_its_first_heading(tmp_path: Path) -> None:
    [document] = documents(write(tmp_path / "a.htm", "<h1>Hiking</h1><p>Go up"))
    assert (document.title, document.text) == ("Hiking", "# Hiking\n\nGo up")


def test_deeply_nested_html_is_read(tmp_path: Path) -> None:
    [document] = documents(write(tmp_path / "a.html", "<div>" * 2000 + "deep"))
    assert document.text == "deep"


def test_pdf(tmp_path: Path) -> None:
    [document] = documents(write(tmp_path / "travel-plan.pdf", pdf("Take a train.", "Then walk.")))
    assert (document.title, document.text) == ("Travel plan", "Take a train.\n\nThen walk.")


def test_docx(tmp_path: Path) -> None:
    made = docx.Document()
    made.add_heading("Ramen", 0)
    made.add_heading("Broth", 1)
    made.add_paragraph("Boil bones.")
    table = made.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "salt", "2 g"
    made.add_heading("Tare", 2)
    made.add_paragraph("Mix.")
    made.save(str(tmp_path / "x.docx"))
    [document] = documents(tmp_path / "x.docx")
    assert document.title == "Ramen"
    assert document.text == "# Ramen\n\n# Broth\n\nBoil bones.\n\nsalt | 2 g\n\n## Tare\n\nMix."


def test_beir_lines(tmp_path: Path) -> None:
    lines = (
        '{"_id": "d1", "title": "T", "text": "One", "year": 2020, "ok": true, "none": null,'
        ' "tags": ["a", "b"], "metadata": {"lang": "en", "place": {"city": "Rome"}}}\n'
        '\n{"text": "Two", "topic": "own"}\n'
    )
    write(tmp_path / "docs" / "corpus.jsonl", lines)
    assert documents(tmp_path / "docs") == [
        Document(
            "docs/corpus.jsonl#d1",
            "One",
            "T",
            {
                "year": 2020,
                "ok": True,
                "tags": "a, b",
                "lang": "en",
                "place.city": "Rome",
                "topic": "docs",
            },
        ),
        Document("docs/corpus.jsonl#3", "Two", "", {"topic": "own"}),
    ]


def test_csv_documents_by_header(tmp_path: Path) -> None:
    table = 'ID,Title,Text,Place\n7,T,"One,\n\n""two""",Rome\n,,Three,\n'
    assert documents(write(tmp_path / "t.csv", table)) == [
        Document("t.csv#7", 'One,\n\n"two"', "T", {"Place": "Rome", "topic": tmp_path.name}),
        Document("t.csv#2", "Three", "", {"topic": tmp_path.name}),
    ]


def test_csv_documents_by_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", "name;body;key\nN;B;k\n")
    columns = {"text": "body", "title": "name", "id": "key"}
    [document] = list(read_sources([file], columns=columns))
    assert document == Document("t.csv#k", "B", "N", {"topic": tmp_path.name})


def test_csv_of_anything_else_is_lines_of_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "city-sizes.csv", "city,people\nRome,2800000\nBern,\n")
    first, second = documents(file)
    assert (first.source, first.title) == ("city-sizes.csv#1", "City sizes")
    assert (first.text, second.text) == ("city: Rome\npeople: 2800000", "city: Bern")


@pytest.mark.parametrize("columns", [{}, {"text": "a", "role": "b"}, {"question": "q"}])
def test_a_column_map_of_no_known_layout_is_refused(columns: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="question and answer"):
        list(read_sources([], columns=columns))


def test_a_folder_is_walked_in_order_without_hidden_entries(tmp_path: Path) -> None:
    root = tmp_path / "topics"
    for name in ("b.md", "a/z.txt", "a/README.md", ".hidden.md", ".git/x.md", "a/pic.png"):
        write(root / name, "text")
    skipped: list[Skipped] = []
    found = list(read_sources([root], skipped=skipped))
    assert [item.source for item in found if isinstance(item, Document)] == [
        "topics/a/README.md",
        "topics/a/z.txt",
        "topics/b.md",
    ]
    assert [item.metadata["topic"] for item in found] == ["a", "a", "topics"]
    assert skipped == [Skipped(str(root / "a" / "pic.png"), 0, "unknown file type .png")]


@pytest.mark.parametrize("given", [".", "../topics", "../topics/", "food/.."])
def test_a_folder_has_its_real_name_however_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    write(tmp_path / "topics" / "food" / "pizza.md", "Dough")
    monkeypatch.chdir(tmp_path / "topics")
    assert [document.source for document in documents(given)] == ["topics/food/pizza.md"]


def test_one_path_may_be_given_alone(tmp_path: Path) -> None:
    assert len(list(read_sources(str(write(tmp_path / "a.md", "x"))))) == 1


def test_two_files_of_one_identity_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "x.md", folder) for folder in "ab"]
    with pytest.raises(UsageError) as caught:
        documents(*files)
    assert all(str(file) in caught.value.problem for file in files)
    assert "Rename" in caught.value.fix


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    file = write(tmp_path / "t" / "x.md", "x")
    (tmp_path / "t" / "y.md").symlink_to(file)
    assert [d.source for d in documents(tmp_path / "t", file)] == ["t/x.md"]


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "out" / "secret.md", "x")
    root = write(tmp_path / "t" / "sub" / "a.md", "x").parent.parent
    (root / "file.md").symlink_to(tmp_path / "out" / "secret.md")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "loop").symlink_to(root)
    skipped: list[Skipped] = []
    found = list(read_sources([root], on_error="fail", skipped=skipped))
    assert [item.source for item in found if isinstance(item, Document)] == ["t/sub/a.md"]
    assert {Path(one.source).name for one in skipped} == {"file.md", "folder"}
    assert all("leads out" in one.reason for one in skipped)


def test_held_out_conversations_are_left_out_unless_named(tmp_path: Path) -> None:
    line = '{"messages": [{"role": "user", "content": "Hi"}]}'
    for name in ("train", "dev", "valid", "test", "other"):
        write(tmp_path / "d" / f"{name}.jsonl", line)
    skipped: list[Skipped] = []
    found = list(
        read_sources([tmp_path / "d", tmp_path / "d" / "test.jsonl"], on_error="fail", skipped=skipped)
    )
    assert [item.id for item in found if isinstance(item, Dialogue)] == [
        "d/other.jsonl#1",
        "d/train.jsonl#1",
        "test.jsonl#1",
    ]
    assert [Path(one.source).name for one in skipped] == ["dev.jsonl", "test.jsonl", "valid.jsonl"]
    assert all("held-out" in one.reason and "name the file" in one.reason for one in skipped)


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_a_source_that_does_not_exist_is_always_an_error(tmp_path: Path, on_error: str) -> None:
    with pytest.raises(CorpusError, match="no file or folder"):
        list(read_sources([tmp_path / "none"], on_error=on_error))  # type: ignore[arg-type]


def test_a_record_is_handed_on_before_the_next_is_read(tmp_path: Path) -> None:
    stream = read_sources([write(tmp_path / "a.jsonl", '{"text": "one"}\n{')], on_error="fail")
    assert next(stream).metadata["topic"] == tmp_path.name
    with pytest.raises(CorpusError, match="line 2"):
        next(stream)


def test_importing_the_package_loads_no_parser() -> None:
    code = (
        "import sys, rag_chat.corpus as c; c.read_sources; "
        "print({'torch', 'yaml', 'docx', 'pypdf', 'selectolax', 'lxml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
