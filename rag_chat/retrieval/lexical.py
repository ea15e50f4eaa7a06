"""BM25 over the words of SQLite's full-text table (FTS5), scored with numpy.

FTS5 scores row by row and looks each row's length up as it goes; its own ranking took 18 ms a question over
100,000 passages of prose where this takes 7.5. The terms, the counts and the formula are FTS5's, and so
are the scores.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_chat.index.dense import Ids
from rag_chat.index.faults import corrupt
from rag_chat.index.reading import Reader
from rag_chat.index.schema import TOKENIZER

K1, B = 1.2, 0.75  # as FTS5 has them
LEAST_IDF = 1e-6  # FTS5's, for words that most passages have

# Words that say how a question is asked, not what about. English only: in other languages they are
# searched for as well, where BM25 gives them little weight because they are everywhere.
_WORDS = """
a about am an and any are as at be been but by can could did do does for from had has have he her him
his how i if in into is it its just me my no not of on or our s she should so some t than that the
their them then there these they this those to was we were what when where which who whom whose why
will with would you your
"""
STOP_WORDS = frozenset(_WORDS.split())

# Tables of this connection only, gone when the snapshot ends: the first tells FTS5's terms of a text,
# the last where the passages hold a term.
_TABLES = f"""
CREATE VIRTUAL TABLE IF NOT EXISTS temp.question USING fts5 (text, content='', tokenize='{TOKENIZER}');
CREATE VIRTUAL TABLE IF NOT EXISTS temp.question_terms USING fts5vocab (temp, question, 'row');
CREATE VIRTUAL TABLE IF NOT EXISTS temp.places USING fts5vocab (main, lexical, 'instance')
"""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many terms each passage has: ids (n,) int64, ascending, and counts (n,) float32."""

    generation: int
    ids: Ids
    terms: NDArray[np.float32]


class LexicalIndex:
    """The passages of a database by their words. Damage to the full-text table is noticed at first use."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._database = reader.database
        self._lengths: Lengths | None = None

    def search(self, query: str, k: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
        """Return (passage id, BM25) of up to k passages that share a word with `query`.

        Best first, ties by id. `allowed`: (n,) int64 restricts the search (None: all).
        """
        words = telling_words(query)
        if not words:
            return []
        with self._database.snapshot() as connection:
            lengths = self._current(connection)
            rows, scores = self._scored(connection, _terms(connection, words), lengths)
        ids = lengths.ids[rows]
        if allowed is not None:
            inside = np.isin(ids, allowed)
            ids, scores = ids[inside], scores[inside]
        best = np.lexsort((ids, -scores))[:k]
        return list(zip(ids[best].tolist(), scores[best].tolist(), strict=True))

    def _scored(
        self, connection: sqlite3.Connection, terms: list[str], lengths: Lengths
    ) -> tuple[Ids, NDArray[np.float64]]:
        """Return the rows of `lengths` that hold a term, (n,) int64 ascending, and their BM25 (n,)."""
        scores = np.zeros(len(lengths.ids))
        norms = K1 * (1 - B + B * lengths.terms / max(1.0, float(lengths.terms.mean() if len(scores) else 0)))
        for term in terms:
            ids, counts = _places(connection, term)
            rows = np.searchsorted(lengths.ids, ids)
            if len(ids) and (rows[-1] == len(scores) or (lengths.ids[rows] != ids).any()):
                raise corrupt(self._database.path, "its lexical table contradicts itself", derived=True)
            idf = max(LEAST_IDF, np.log((len(scores) - len(ids) + 0.5) / (len(ids) + 0.5)))
            scores[rows] += idf * counts * (K1 + 1) / (counts + norms[rows])
        found = np.flatnonzero(scores)
        return found, scores[found]

    def _current(self, connection: sqlite3.Connection) -> Lengths:
        """Return the lengths of the state that is being read; they are kept until it changes."""
        if self._lengths is None:
            self._reader.check_lexical()
        generation = self._database.meta("generation")
        if self._lengths is None or self._lengths.generation != generation:
            rows = connection.execute("SELECT id, sz FROM lexical_docsize ORDER BY id").fetchall()
            ids = np.array([row[0] for row in rows], np.int64)
            self._lengths = Lengths(generation, ids, np.array([_varint(row[1]) for row in rows], np.float32))
        return self._lengths


def telling_words(query: str) -> list[str]:
    """Return the words of `query`, in lower case and once each.

    Stop words are left out unless there is nothing else.
    """
    words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))
    words = [word for word in words if any(sign.isalnum() for sign in word)]
    return [word for word in words if word not in STOP_WORDS] or words


def _terms(connection: sqlite3.Connection, words: list[str]) -> list[str]:
    """Return the terms that FTS5 makes of words: their stems, without accents."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO temp.question (question) VALUES ('delete-all')")
    connection.execute("INSERT INTO temp.question (rowid, text) VALUES (1, ?)", (" ".join(words),))
    return [term for (term,) in connection.execute("SELECT term FROM temp.question_terms")]


def _places(connection: sqlite3.Connection, term: str) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids of the passages that hold a term, (n,) ascending, and how often each does.

    As one text, which is parsed at once: fetching ids one by one takes twice as long.
    """
    query = "SELECT group_concat(doc) FROM temp.places WHERE term = ?"
    listed = connection.execute(query, (term,)).fetchone()[0]
    ids = np.fromstring(listed or "", np.int64, sep=",")
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return ids[starts], np.diff(starts, append=len(ids))


def _varint(size: bytes) -> int:
    """Read SQLite's variable-length integer: seven bits a byte, the highest first."""
    value = 0
    for byte in size:
        value = value << 7 | byte & 0x7F
    return value
