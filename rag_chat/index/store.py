"""What an index holds, as rows: documents, passages, vectors, tags and the lexical table."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag_chat.errors import IndexCorrupt, UsageError
from rag_chat.index.database import Database
from rag_chat.index.faults import corrupt
from rag_chat.index.rows import as_json, checksum, content_of, tag, text_hash
from rag_chat.types import Document, Kind, Passage, Scalar

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

PASSAGE_COLUMNS = """p.id, p.public_id, d.source, p.title, p.text, p.start, p.end, d.kind, p.context,
    p.situation, p.metadata, p.checksum"""
ROWS_AT_ONCE = 4096
VECTOR_TYPE = np.dtype("<f4")


class State(NamedTuple):
    """What is known of a document without reading it."""

    kind: Kind
    hash: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is stored, with its passages and their vectors (n, dim) float32, unit rows."""

    document: Document
    kind: Kind
    origin: str
    hash: bytes
    passages: Sequence[Passage]
    vectors: Vectors


class Store:
    """Reads and writes the rows of one database; rows that fail their checksum raise IndexCorrupt."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Reading

    def count(self, kind: Kind | None = None) -> int:
        """How many documents there are, of one kind or of both."""
        query = "SELECT count(*) FROM documents WHERE kind = ? OR ? IS NULL"
        return self._number(query, kind, kind)

    def count_passages(self) -> int:
        return self._number("SELECT count(*) FROM passages")

    def state(self, source: str) -> State | None:
        """Return kind, hash and origin of a document, None when it is not in the index."""
        row = self._one("SELECT kind, hash, origin FROM documents WHERE source = ?", source)
        return None if row is None else State(*row)

    def origins(self) -> dict[str, str]:
        """Return the origin of every document, by source."""
        return dict(self._all("SELECT source, origin FROM documents ORDER BY source"))

    def text(self, source: str) -> str | None:
        """Return the text of a document, None when it is not in the index."""
        query = "SELECT title, metadata, text, checksum FROM documents WHERE source = ?"
        row = self._one(query, source)
        if row is None:
            return None
        self._check(f"document {source}", row[:3], row[3])
        return str(row[2])

    def resolve(self, name: str) -> list[str]:
        """Return the sources that are `name`, or else that end in "/name"."""
        if self.state(name):
            return [name]
        tail = f"/{name}"
        query = "SELECT source FROM documents WHERE substr(source, -length(?)) = ?"
        return [source for (source,) in self._all(query, tail, tail)]

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Return passages by id; ids that are not there are left out."""
        query = f"""SELECT {PASSAGE_COLUMNS} FROM passages p JOIN documents d ON d.id = p.document
            WHERE p.id IN (SELECT value FROM json_each(?))"""
        rows = self._all(query, json.dumps([int(i) for i in ids]))
        return {row[0]: self._passage(row) for row in rows}

    def passage(self, name: str) -> Passage | None:
        """Return the passage of that public id, None when it is not in the index."""
        query = f"""SELECT {PASSAGE_COLUMNS} FROM passages p JOIN documents d ON d.id = p.document
            WHERE p.public_id = ?"""
        row = self._one(query, name)
        return None if row is None else self._passage(row)

    def all_passages(self) -> Iterator[tuple[int, Passage]]:
        """Yield every passage with its id, ascending; holds no lock between pages."""
        query = f"""SELECT {PASSAGE_COLUMNS} FROM passages p JOIN documents d ON d.id = p.document
            WHERE p.id > ? ORDER BY p.id LIMIT {ROWS_AT_ONCE}"""
        last = 0
        while rows := self._all(query, last):
            last = rows[-1][0]
            yield from ((row[0], self._passage(row)) for row in rows)

    def passage_ids(self, sources: Sequence[str] | None = None) -> Ids:
        """Return the ids of all passages, or of those of some documents: (n,) int64, ascending."""
        if sources is None:
            return self._ids("SELECT id FROM passages ORDER BY id")
        query = """SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
            WHERE d.source IN (SELECT value FROM json_each(?)) ORDER BY p.id"""
        return self._ids(query, json.dumps(list(sources)))

    def matching(self, filter: Mapping[str, Scalar]) -> Ids:
        """Return the ids of the passages that a filter allows: (n,) int64, ascending.

        Raises UsageError for a key that no passage has.
        """
        conditions, values = ["TRUE"], []
        for key, value in filter.items():
            if key in ("kind", "source"):
                conditions.append(f"d.{key} = ?")
                values += [tag(value)]
            else:
                self._require_key(key)
                conditions.append("p.id IN (SELECT passage FROM tags WHERE key = ? AND value = ?)")
                values += [key, tag(value)]
        query = f"""SELECT p.id FROM passages p JOIN documents d ON d.id = p.document
            WHERE {" AND ".join(conditions)} ORDER BY p.id"""
        return self._ids(query, *values)

    def _require_key(self, key: str) -> None:
        if self._one("SELECT 1 FROM tags WHERE key = ? LIMIT 1", key) is None:
            known = [row[0] for row in self._all("SELECT DISTINCT key FROM tags ORDER BY key")]
            raise UsageError(
                f"No passage has metadata named {key!r}.",
                f"Known keys: {', '.join(['kind', 'source', *known])}.",
            )

    def vectors(self, ids: Ids | None = None) -> tuple[Ids, Vectors]:
        """Return passage ids (n,) int64, ascending, and their vectors (n, dim) float32."""
        if ids is None:
            every = "SELECT passage, vector, checksum FROM vectors ORDER BY passage"
            return self._matrix(self._all(every))
        query = """SELECT passage, vector, checksum FROM vectors
            WHERE passage IN (SELECT value FROM json_each(?)) ORDER BY passage"""
        return self._matrix(self._all(query, json.dumps(ids.tolist())))

    def vectors_of(self, hashes: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the stored vectors (dim,) of texts known by their hash; unknown ones are left out."""
        query = "SELECT passage, vector, checksum FROM vectors WHERE text_hash = ? LIMIT 1"
        found = {one: self._all(query, one) for one in set(hashes)}
        return {one: self._matrix(rows)[1][0] for one, rows in found.items() if rows}

    def lexical(self, expression: str, limit: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
        """Return (passage id, BM25) of the best matches of an FTS5 expression, ties by id."""
        # The plus keeps SQLite from asking FTS5 once for each id: 40 ms, not 6 s, for 4,000 of 20,000.
        inside = "" if allowed is None else "AND +rowid IN (SELECT value FROM json_each(?))"
        query = f"""SELECT rowid, -bm25(lexical) AS score FROM lexical WHERE lexical MATCH ? {inside}
            ORDER BY score DESC, rowid LIMIT ?"""
        given = [] if allowed is None else [json.dumps(allowed.tolist())]
        return self._all(query, expression, *given, limit)

    # Writing, always inside database.transaction()

    def put(self, entry: Entry) -> None:
        """Write a document with everything that belongs to it, in place of an earlier version."""
        self.remove([entry.document.source])
        document = entry.document
        known = (document.source, entry.kind, entry.origin, entry.hash)
        row = (document.title, as_json(document.metadata), document.text)
        with self.database.transaction() as connection:
            cursor = connection.execute(
                """INSERT INTO documents (source, kind, origin, hash, title, metadata, text, checksum)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (*known, *row, checksum(row)),
            )
            for passage, vector in zip(entry.passages, entry.vectors, strict=True):
                self._put_passage(connection, cursor.lastrowid, passage, vector)

    def _put_passage(
        self,
        connection: sqlite3.Connection,
        document: int | None,
        passage: Passage,
        vector: Vectors,
    ) -> None:
        row = content_of(passage)
        cursor = connection.execute(
            """INSERT INTO passages (document, public_id, title, text, start, end, context, situation,
            metadata, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (document, *row, checksum(row)),
        )
        i, text = cursor.lastrowid, passage.search_text
        self._put_vector(connection, i, text, vector)
        connection.execute("INSERT INTO lexical (rowid, text) VALUES (?, ?)", (i, text))
        tags = [(key, tag(value), i) for key, value in passage.metadata.items()]
        connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", tags)

    def _put_vector(
        self, connection: sqlite3.Connection, passage: int | None, text: str, vector: Vectors
    ) -> None:
        blob = vector.astype(VECTOR_TYPE).tobytes()
        connection.execute(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)",
            (passage, text_hash(text), zlib.crc32(blob), blob),
        )

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
        with self.database.transaction() as connection:
            rows = [(origin, source) for source, origin in origins.items()]
            connection.executemany("UPDATE documents SET origin = ? WHERE source = ?", rows)

    def replace_vectors(self, passages: Sequence[tuple[int, Passage]], vectors: Vectors) -> None:
        """Put other vectors (n, dim) float32 in the place of those of `passages`."""
        with self.database.transaction() as connection:
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

    # Rows

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self.database.snapshot() as connection:
            return connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> Any:
        with self.database.snapshot() as connection:
            return connection.execute(query, values).fetchone()

    def _number(self, query: str, *values: Any) -> int:
        return int(self._one(query, *values)[0])

    def _ids(self, query: str, *values: Any) -> Ids:
        return np.array([row[0] for row in self._all(query, *values)], dtype=np.int64)

    def _passage(self, row: tuple[Any, ...]) -> Passage:
        _, name, source, title, text, start, end, kind, context, situation, metadata, stored = row
        content = (name, title, text, start, end, context, situation, metadata)
        self._check(f"passage {name}", content, stored)
        return Passage(name, source, title, text, start, end, kind, context, situation, json.loads(metadata))

    def _matrix(self, rows: Sequence[tuple[int, bytes, int]]) -> tuple[Ids, Vectors]:
        for i, blob, stored in rows:
            if zlib.crc32(blob) != stored:
                raise self._damaged(f"the vector of passage row {i}")
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        flat = np.frombuffer(b"".join(row[1] for row in rows), dtype=VECTOR_TYPE)
        dimension = self.database.meta("embedder")["dimension"]
        return ids, flat.reshape(len(rows), dimension).astype(np.float32)

    def _check(self, what: str, content: Sequence[Any], stored: int) -> None:
        if checksum(content) != stored:
            raise self._damaged(what)

    def _damaged(self, what: str) -> IndexCorrupt:
        return corrupt(self.database.path, f"{what} does not match its checksum")
