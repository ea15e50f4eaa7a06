"""What an index holds, read and checked: documents, passages, vectors, tags and the lexical table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag_chat.errors import IndexCorrupt, UsageError
from rag_chat.index.database import Database
from rag_chat.index.faults import corrupt
from rag_chat.index.rows import checksum, tag
from rag_chat.index.schema import crc, lexical_total
from rag_chat.types import Kind, Passage, Scalar

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

PASSAGE_COLUMNS = """p.id, d.source, d.kind, p.public_id, p.title, p.text, p.start, p.end, p.context,
    p.situation, p.metadata, p.checksum"""
ROWS_AT_ONCE = 4096
VECTOR_TYPE = np.dtype("<f4")


class State(NamedTuple):
    """What is known of a document without reading it."""

    kind: Kind
    hash: bytes
    origin: str


class Reader:
    """Reads the rows of one database. Raises IndexCorrupt for rows that do not match their checksum,
    and for rows that are not there although their tally says they are."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def count(self, kind: Kind) -> int:
        """How many documents of one kind there are."""
        return sum(state.kind == kind for state in self.states().values())

    def count_passages(self) -> int:
        return len(self.passage_ids())

    def state(self, source: str) -> State | None:
        """Return kind, hash and origin of a document, None when it is not in the index."""
        query = "SELECT source, kind, hash, origin, state_checksum FROM documents WHERE source = ?"
        with self.database.snapshot():
            row = self._one(query, source)
            if (row is None) != (self._tally("document", source) is None):
                raise self._damaged(f"document {source} is only half there")
        return None if row is None else self._state(row)

    def states(self) -> dict[str, State]:
        """Return what is known of every document, by source, sorted."""
        query = "SELECT source, kind, hash, origin, state_checksum FROM documents ORDER BY source"
        with self.database.snapshot():
            states = {row[0]: self._state(row) for row in self._all(query)}
            if list(states) != self.sources():
                raise self._damaged("its documents are not those it has listed")
        return states

    def sources(self) -> list[str]:
        """Return the source of every document, sorted, from the two places where they are listed."""
        with self.database.snapshot():
            listed = self._all("SELECT value FROM tallies WHERE name = 'document' ORDER BY value")
            if listed != self._all("SELECT source FROM documents ORDER BY source"):
                raise self._damaged("its documents are not those it has listed")
        return [source for (source,) in listed]

    def text(self, source: str) -> str | None:
        """Return the text of a document, None when it is not in the index."""
        query = "SELECT source, title, metadata, text, checksum FROM documents WHERE source = ?"
        row = self._one(query, source)
        if row is None:
            self.state(source)
            return None
        self._check(f"document {source}", row[:4], row[4])
        return str(row[3])

    def resolve(self, name: str) -> list[str]:
        """Return the sources that are `name`, or else that end in "/name"."""
        if self.state(name):
            return [name]
        return [source for source in self.sources() if source.endswith(f"/{name}")]

    def passages(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Return passages by id; all of them must be there."""
        query = f"""SELECT {PASSAGE_COLUMNS} FROM passages p JOIN documents d ON d.id = p.document
            WHERE p.id IN (SELECT value FROM json_each(?))"""
        rows = self._all(query, json.dumps([int(i) for i in ids]))
        found = {row[0]: self._passage(row) for row in rows}
        if missing := set(ids).difference(found):
            raise self._damaged(f"passage row {min(missing)} is missing")
        return found

    def passage(self, name: str) -> Passage | None:
        """Return the passage of that public id, None when it is not in the index."""
        source = name.rpartition("#")[0]
        with self.database.snapshot():
            mine = self.passages(self.passage_ids([source]).tolist())
        return next((passage for passage in mine.values() if passage.id == name), None)

    def all_passages(self) -> Iterator[tuple[int, Passage]]:
        """Yield every passage with its id, ascending, in pages of one state each; no lock is held between."""
        page = self._page(0)
        while page:
            yield from page.items()
            page = self._page(max(page))

    def _page(self, last: int) -> dict[int, Passage]:
        """Up to ROWS_AT_ONCE passages with ids above `last`, ascending."""
        query = f"SELECT id FROM passages WHERE id > ? ORDER BY id LIMIT {ROWS_AT_ONCE}"
        with self.database.snapshot():
            ids = [row[0] for row in self._all(query, last)]
            found = self.passages(ids)
        return {i: found[i] for i in ids}

    def passage_ids(self, sources: Sequence[str] | None = None) -> Ids:
        """Return the ids of all passages, or of those of some documents: (n,) int64, ascending."""
        with self.database.snapshot():
            if sources is not None:
                found = [self._tagged("source", source) for source in dict.fromkeys(sources)]
                return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
            rows = self._all("SELECT id, checksum FROM passages")
            if self._tally("passages") != (len(rows), sum(row[1] for row in rows)):
                raise self._damaged("some of its passages are missing")
        return np.sort(self._ids(rows))

    def matching(self, filter: Mapping[str, Scalar]) -> Ids:
        """Return the ids of the passages that a filter allows: (n,) int64, ascending.

        Raises UsageError for a key that no passage has.
        """
        with self.database.snapshot():
            allowed = None
            for key, value in filter.items():
                found = self._tagged(key, tag(value))
                if not len(found):
                    self._require_key(key)
                allowed = found if allowed is None else np.intersect1d(allowed, found, assume_unique=True)
            return self.passage_ids() if allowed is None else allowed

    def _tagged(self, key: str, value: str) -> Ids:
        query = "SELECT passage FROM tags WHERE key = ? AND value = ? ORDER BY passage"
        ids = self._ids(self._all(query, key, value))
        if (len(ids), int(ids.sum())) != (self._tally(f"tag {key}", value) or (0, 0)):
            raise self._damaged(f"what is tagged {key}={value} is not all there")
        return ids

    def _require_key(self, key: str) -> None:
        if key in ("kind", "source") or self._one("SELECT 1 FROM tags WHERE key = ? LIMIT 1", key):
            return
        known = {row[0] for row in self._all("SELECT DISTINCT key FROM tags")} - {"kind", "source"}
        raise UsageError(
            f"No passage has metadata named {key!r}.",
            f"Known keys: {', '.join(['kind', 'source', *sorted(known)])}.",
        )

    def vectors(self, ids: Ids | None = None) -> tuple[Ids, Vectors]:
        """Return passage ids (n,) int64, ascending, and their vectors (n, dim) float32."""
        columns = "SELECT passage, text_hash, vector, checksum FROM vectors"
        with self.database.snapshot():
            if ids is None:
                rows = self._all(f"{columns} ORDER BY passage")
                expected = self._tally("vectors") == (len(rows), sum(row[3] for row in rows))
            else:
                query = f"{columns} WHERE passage IN (SELECT value FROM json_each(?)) ORDER BY passage"
                rows = self._all(query, json.dumps(ids.tolist()))
                expected = {row[0] for row in rows} == set(ids.tolist())
            if not expected:
                raise self._damaged("some of its vectors are missing")
            return self._matrix(rows)

    def vectors_of(self, hashes: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the stored vectors (dim,) of texts known by their hash; unknown ones are left out."""
        query = "SELECT passage, text_hash, vector, checksum FROM vectors WHERE text_hash = ? LIMIT 1"
        with self.database.snapshot() as connection:
            found = {one: connection.execute(query, (one,)).fetchall() for one in set(hashes)}
        return {one: self._matrix(rows)[1][0] for one, rows in found.items() if rows}

    def check_lexical(self) -> None:
        """Raise IndexCorrupt when the lexical table is not, byte for byte, what was written.

        0.2 s for 100,000 passages.
        """
        with self.database.snapshot() as connection:
            if self._tally("lexical") != lexical_total(connection):
                raise corrupt(self.database.path, "its lexical table is not what was written", derived=True)

    # Rows

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self.database.snapshot() as connection:
            return connection.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> Any:
        with self.database.snapshot() as connection:
            return connection.execute(query, values).fetchone()

    def _tally(self, name: str, value: str = "") -> Any:
        """Return how many rows there must be and their total; None where there is no such tally."""
        return self._one("SELECT rows, total FROM tallies WHERE name = ? AND value = ?", name, value)

    def _ids(self, rows: Sequence[tuple[Any, ...]]) -> Ids:
        try:
            return np.array([row[0] for row in rows], dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            raise self._damaged("an id is not a number") from None

    def _state(self, row: tuple[Any, ...]) -> State:
        self._check(f"document {row[0]}", row[:4], row[4])
        return State(*row[1:4])

    def _passage(self, row: tuple[Any, ...]) -> Passage:
        *content, stored = row
        self._check(f"passage {row[3]}", content, stored)
        _, source, kind, name, title, text, start, end, context, situation, metadata = content
        return Passage(name, source, title, text, start, end, kind, context, situation, json.loads(metadata))

    def _matrix(self, rows: Sequence[tuple[int, bytes, bytes, int]]) -> tuple[Ids, Vectors]:
        for i, digest, blob, stored in rows:
            if crc(i, digest, blob) != stored:
                raise self._damaged(f"the vector of passage row {i} does not match its checksum")
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        flat = np.frombuffer(b"".join(row[2] for row in rows), dtype=VECTOR_TYPE)
        dimension = self.database.meta("embedder")["dimension"]
        return ids, flat.reshape(len(rows), dimension).astype(np.float32)

    def _check(self, what: str, content: Sequence[Any], stored: int) -> None:
        if checksum(content) != stored:
            raise self._damaged(f"{what} does not match its checksum")

    def _damaged(self, what: str) -> IndexCorrupt:
        return corrupt(self.database.path, what)
