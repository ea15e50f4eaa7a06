"""What an index holds, written: documents, passages, vectors, tags and the lexical table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_chat.index.reading import VECTOR_TYPE, Ids, Reader, State, Vectors
from rag_chat.index.rows import as_json, checksum, content_of, tags_of, text_hash
from rag_chat.index.schema import crc
from rag_chat.types import Document, Kind, Passage

Numbered = Iterable[tuple[int, Passage]]

__all__ = ["Entry", "Ids", "State", "Store", "Vectors"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is stored, cut into passages. `replaces`: an earlier version of it is stored."""

    document: Document
    kind: Kind
    origin: str
    hash: bytes
    passages: Sequence[Passage]
    replaces: bool


class Store(Reader):
    """Reads and writes the rows of one database; writes are always inside database.transaction()."""

    def put(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        """Write documents with everything that belongs to them, in place of earlier versions.

        vectors: (n, dim) float32, unit rows, one a passage in the order of the entries.
        """
        with self.database.transaction() as connection:
            if replaced := [entry.document.source for entry in entries if entry.replaces]:
                self.remove(replaced)
            document, first = (_next_id(connection, table) for table in ("documents", "passages"))
            connection.executemany(
                """INSERT INTO documents (id, source, kind, hash, origin, state_checksum, title, metadata,
                text, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (_document_row(i, entry) for i, entry in enumerate(entries, document)),
            )
            owners = [i for i, entry in enumerate(entries, document) for _ in entry.passages]
            passages = list(enumerate((one for entry in entries for one in entry.passages), first))
            connection.executemany(
                """INSERT INTO passages (id, document, public_id, title, text, start, end, context, situation,
                metadata, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (_passage_row(i, owner, one) for owner, (i, one) in zip(owners, passages, strict=True)),
            )
            self._put_vectors(connection, passages, vectors)
            self._put_lexical(connection, passages)
            tags = ((key, value, i) for i, one in passages for key, value in tags_of(one).items())
            connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", tags)

    def _put_vectors(self, connection: sqlite3.Connection, passages: Numbered, vectors: Vectors) -> None:
        connection.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?, ?)",
            (_vector_row(i, one, vector) for (i, one), vector in zip(passages, vectors, strict=True)),
        )

    def _put_lexical(self, connection: sqlite3.Connection, passages: Numbered) -> None:
        rows = ((i, passage.search_text) for i, passage in passages)
        connection.executemany("INSERT INTO lexical (rowid, text) VALUES (?, ?)", rows)

    def remove(self, sources: Sequence[str]) -> None:
        """Remove documents with their passages, vectors, tags and lexical entries."""
        ids = self.passage_ids(sources)
        with self.database.transaction() as connection:
            connection.executemany(  # a contentless table is told what it holds in order to forget it
                "INSERT INTO lexical (lexical, rowid, text) VALUES ('delete', ?, ?)",
                [(i, passage.search_text) for i, passage in self.passages(ids.tolist()).items()],
            )
            rows = [(source,) for source in sources]
            gone = connection.executemany("DELETE FROM documents WHERE source = ?", rows).rowcount
            if gone > 0:
                self.database.set_meta(unswept=True)

    def clear(self) -> None:
        """Remove every document."""
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO lexical (lexical) VALUES ('delete-all')")
            connection.execute("DELETE FROM documents")
            self.database.set_meta(unswept=True)

    def forget_terms(self) -> None:
        """Merge the lexical table into one segment, which drops the words of removed passages."""
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")

    def move(self, origins: Mapping[str, str]) -> None:
        """Change the origin of documents, by source."""
        for source, origin in origins.items():
            if state := self.state(source):
                row = (source, state.kind, state.hash, origin)
                update = "UPDATE documents SET origin = ?, state_checksum = ? WHERE source = ?"
                with self.database.transaction() as connection:
                    connection.execute(update, (origin, checksum(row), source))

    def replace_vectors(self, passages: Sequence[tuple[int, Passage]], vectors: Vectors) -> None:
        """Put other vectors (n, dim) float32 in the place of those of `passages`."""
        with self.database.transaction() as connection:
            connection.executemany("DELETE FROM vectors WHERE passage = ?", [(i,) for i, _ in passages])
            self._put_vectors(connection, passages, vectors)

    def rebuild_lexical(self) -> None:
        """Make the lexical table again from the passages."""
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO lexical (lexical) VALUES ('delete-all')")
            self._put_lexical(connection, self.all_passages())


def _next_id(connection: sqlite3.Connection, table: str) -> int:
    """The first id that no row of a table has had."""
    used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return used[0] + 1 if used else 1


def _document_row(i: int, entry: Entry) -> tuple[Any, ...]:
    document = entry.document
    state = (document.source, entry.kind, entry.hash, entry.origin)
    content = (document.title, as_json(document.metadata), document.text)
    return (i, *state, checksum(state), *content, checksum((document.source, *content)))


def _passage_row(i: int, document: int, passage: Passage) -> tuple[Any, ...]:
    content = content_of(i, passage)
    _, _, _, *row = content
    return (i, document, *row, checksum(content))


def _vector_row(i: int, passage: Passage, vector: Vectors) -> tuple[Any, ...]:
    digest, blob = text_hash(passage.search_text), vector.astype(VECTOR_TYPE).tobytes()
    return (i, digest, crc(i, digest, blob), blob)
