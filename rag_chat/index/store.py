"""What an index holds, written: documents, passages, vectors, tags and the lexical table."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_chat.index.reading import VECTOR_TYPE, Ids, Reader, State, Vectors
from rag_chat.index.rows import as_json, checksum, content_of, tags_of, text_hash
from rag_chat.index.schema import crc
from rag_chat.types import Document, Kind, Passage

__all__ = ["Entry", "Ids", "State", "Store", "Vectors"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is stored, with its passages and their vectors (n, dim) float32, unit rows."""

    document: Document
    kind: Kind
    origin: str
    hash: bytes
    passages: Sequence[Passage]
    vectors: Vectors


class Store(Reader):
    """Reads and writes the rows of one database; writes are always inside database.transaction()."""

    def put(self, entry: Entry) -> None:
        """Write a document with everything that belongs to it, in place of an earlier version."""
        self.remove([entry.document.source])
        document = entry.document
        state = (document.source, entry.kind, entry.hash, entry.origin)
        content = (document.title, as_json(document.metadata), document.text)
        with self.database.transaction() as connection:
            cursor = connection.execute(
                """INSERT INTO documents (source, kind, hash, origin, state_checksum, title, metadata, text,
                checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (*state, checksum(state), *content, checksum((document.source, *content))),
            )
            used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'passages'").fetchone()
            first = used[0] + 1 if used else 1
            for i, (passage, vector) in enumerate(zip(entry.passages, entry.vectors, strict=True), first):
                self._put_passage(connection, i, cursor.lastrowid, passage, vector)

    def _put_passage(
        self,
        connection: sqlite3.Connection,
        i: int,
        document: int | None,
        passage: Passage,
        vector: Vectors,
    ) -> None:
        content = content_of(i, passage)
        _, _, _, *row = content
        connection.execute(
            """INSERT INTO passages (id, document, public_id, title, text, start, end, context, situation,
            metadata, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (i, document, *row, checksum(content)),
        )
        text = passage.search_text
        self._put_vector(connection, i, text, vector)
        connection.execute("INSERT INTO lexical (rowid, text) VALUES (?, ?)", (i, text))
        tags = [(key, value, i) for key, value in tags_of(passage).items()]
        connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", tags)

    def _put_vector(self, connection: sqlite3.Connection, i: int, text: str, vector: Vectors) -> None:
        digest, blob = text_hash(text), vector.astype(VECTOR_TYPE).tobytes()
        row = (i, digest, crc(i, digest, blob), blob)
        connection.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", row)

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
            for (i, passage), vector in zip(passages, vectors, strict=True):
                self._put_vector(connection, i, passage.search_text, vector)

    def rebuild_lexical(self) -> None:
        """Make the lexical table again from the passages."""
        with self.database.transaction() as connection:
            connection.execute("INSERT INTO lexical (lexical) VALUES ('delete-all')")
            connection.executemany(
                "INSERT INTO lexical (rowid, text) VALUES (?, ?)",
                ((i, passage.search_text) for i, passage in self.all_passages()),
            )
