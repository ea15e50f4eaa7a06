"""Topic documents from text, Markdown, HTML, PDF and Word files."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from rag_chat.corpus.dialogues import conversations_in, tagged_dialogues
from rag_chat.corpus.markdown import first_heading, front_matter
from rag_chat.corpus.sources import Fault, Record, SourceFile
from rag_chat.corpus.text import MAX_FILE_BYTES, read_bytes, read_text, readable, with_topic
from rag_chat.corpus.webpage import read_page
from rag_chat.errors import MissingExtra, require
from rag_chat.types import Document, Metadata

MAX_ZIP_RATIO = 100  # Word's own files stay below 30; a zip bomb is above 1000
FREE_ZIP_BYTES = 10 * 1024 * 1024  # below this the ratio says nothing and does no harm


def read_plain(file: SourceFile) -> Iterator[Record]:
    """Read a .txt file: dialogues when every turn begins with its speaker, else one document."""
    text = read_text(file.path)
    if conversations := conversations_in(text):
        yield from tagged_dialogues(conversations, file)
    else:
        yield _document(file, text)


def read_markdown(file: SourceFile) -> Iterator[Record]:
    """Read a .md file; the front matter, the first `# heading` or the name gives the title."""
    metadata, text = front_matter(read_text(file.path))
    title = str(metadata.pop("title", "")) or first_heading(text)
    yield _document(file, text, title, metadata)


def read_html(file: SourceFile) -> Iterator[Record]:
    """Read the visible text of an HTML page, its headings as Markdown. Needs the extra `html`."""
    title, text = read_page(read_text(file.path, limit_lines=False))
    yield _document(file, text, title or first_heading(text))


def read_pdf(file: SourceFile) -> Iterator[Record]:
    """Read the text layer of a PDF, page after page. Needs the extra `pdf`."""
    pypdf = require("pypdf", "pdf")
    raw = read_bytes(file.path)
    with _foreign("PDF"):
        reader = pypdf.PdfReader(BytesIO(raw))
        pages = [_clean(page.extract_text()) for page in reader.pages]
        title = _clean(str((reader.metadata and reader.metadata.title) or "")).strip()
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise Fault("the PDF holds no text; scanned pages need text recognition (OCR) first")
    yield _document(file, text, title)


def _clean(text: str) -> str:
    """Drop what a font without a proper character map leaves behind."""
    return text.replace("\0", "").encode(errors="ignore").decode().strip()


def read_docx(file: SourceFile) -> Iterator[Record]:
    """Read a Word file: paragraphs, tables, headings as Markdown. Needs the extra `docx`."""
    docx = require("docx", "docx")
    raw = read_bytes(file.path)
    with _foreign("Word file"):
        _check_zip(raw)
        blocks = [_block(block) for block in docx.Document(BytesIO(raw)).iter_inner_content()]
    text = "\n\n".join(block for block in blocks if block.strip())
    yield _document(file, text, first_heading(text))


def _check_zip(raw: bytes) -> None:
    """Refuse, before anything parses it, an archive that would unpack to far more than it is."""
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_FILE_BYTES or size > max(FREE_ZIP_BYTES, MAX_ZIP_RATIO * len(raw)):
            raise Fault(f"it would unpack to {size // 2**20} MB: a zip bomb?")
        for entry in archive.infolist():
            if entry.filename.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(entry):
                raise Fault(f"{entry.filename} declares a document type, which Word never does")


def _block(block: Any) -> str:
    if hasattr(block, "rows"):
        rows = (" | ".join(cell.text.strip() for cell in row.cells) for row in block.rows)
        return "\n".join(rows)
    style = block.style.name if block.style is not None else ""
    if style == "Title":
        return f"# {block.text}"
    if style.startswith("Heading ") and style[-1].isdigit():
        return f"{'#' * min(int(style.split()[-1]), 6)} {block.text}"
    return str(block.text)


@contextmanager
def _foreign(what: str) -> Iterator[None]:
    """Run a third-party parser: its warnings and logs stay quiet, whatever it raises is a Fault.

    Damaged files make these parsers raise almost anything (pypdf's own documentation says so).
    """
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Fault, MissingExtra, OSError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise Fault(f"the {what} is damaged or protected: {reason}") from error
    finally:
        logger.setLevel(level)


def _document(file: SourceFile, text: str, title: str = "", metadata: Metadata | None = None) -> Record:
    return 0, Document(
        source=file.identity,
        text=text,
        title=title or readable(file.path.stem),
        metadata=with_topic(metadata or {}, file.topic),
    )
