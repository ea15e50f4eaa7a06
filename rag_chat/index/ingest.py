"""One run over documents and dialogues: what is new is cut, embedded and committed in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rag_chat.config import IndexSettings
from rag_chat.corpus import TokenSpans, chunk_dialogue, chunk_document, dialogue_document
from rag_chat.errors import CorpusError
from rag_chat.index.embedding import token_spans_of
from rag_chat.index.inputs import (
    Input,
    Item,
    OnError,
    fingerprint,
    identity_of,
    in_scope,
    kind_of,
    unreadable,
)
from rag_chat.index.rows import text_hash
from rag_chat.index.store import Entry, State, Store, Vectors
from rag_chat.types import Dialogue, Embedder, Skipped

BATCH_PASSAGES = 512  # a commit each: a kill costs at most their embedding, 20 s on one core

Progress = Callable[[int, int], None]
"""Called after each commit with the documents seen and the passages written so far."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a change did: counts of documents, the passages there are now, and the time it took."""

    added: int
    updated: int
    unchanged: int
    removed: int
    skipped: tuple[Skipped, ...]
    passages: int
    seconds: float


class Ingest:
    """Takes items one by one. `embedder` is called only when there is something to embed.

    `skipped` is what is passed over.
    """

    def __init__(
        self,
        store: Store,
        embedder: Callable[[], Embedder],
        settings: IndexSettings,
        *,
        on_error: OnError = "skip",
    ) -> None:
        self.skipped: list[Skipped] = []
        self.on_error = on_error
        self._store = store
        self._folder = store.database.path.parent
        self._embedder = embedder
        self._settings = settings
        self._progress: Progress | None = None
        self._started = time.monotonic()
        self._seen: set[str] = set()
        self._pending: list[Entry] = []
        self._waiting = 0  # passages of those pending
        self._moved: dict[str, str] = {}
        self._left: set[str] = set()
        self._added = self._updated = self._unchanged = self._removed = self._written = 0

    def take_all(self, inputs: Iterable[Input], progress: Progress | None = None) -> None:
        """Take and write every item; `progress` is called after each commit."""
        self._progress = progress
        for given in inputs:
            self.take(given)
        self.flush()

    def take(self, given: Input) -> None:
        """Take one item; it is written with its batch. Raises CorpusError with on_error="fail"."""
        source = identity_of(given.item)
        stored = self._store.state(source)
        try:
            digest = fingerprint(given.item)
        except UnicodeEncodeError:
            self._refuse(repr(source), "it holds characters that are not valid Unicode")
            return
        if objection := self._objection(given, source, stored):
            self._refuse(source, objection)
            return
        self._seen.add(source)
        if stored and stored.origin != given.origin:
            self._moved[source] = given.origin
            self._left.add(stored.origin)
        if stored and stored.hash == digest:
            self._unchanged += 1
            return
        self._added += stored is None
        self._updated += stored is not None
        entry = prepare(given, digest, self._token_spans, self._settings, replaces=stored is not None)
        self._pending.append(entry)
        self._waiting += len(entry.passages)
        if self._waiting >= BATCH_PASSAGES:
            self.flush()

    @cached_property
    def _token_spans(self) -> TokenSpans:
        return token_spans_of(self._embedder())

    def _objection(self, given: Input, source: str, stored: State | None) -> str:
        """Say why taking an item would lose another one ("": it would not)."""
        if source in self._seen:
            return "another item of this run has the same identity"
        if stored and stored.kind != kind_of(given.item):
            return f"a {stored.kind} has this name in the index; remove it, or rename this one"
        if stored and self._elsewhere(stored.origin, given.origin):
            return f"{stored.origin} holds another one of this name; rename one of the two"
        return ""

    def _elsewhere(self, old: str, new: str) -> bool:
        related = in_scope(old, [new]) or in_scope(new, [old])
        return bool(old and new) and not related and self._exists(old)

    def _exists(self, origin: str) -> bool:
        return (self._folder / origin).exists()

    def _refuse(self, source: str, reason: str) -> None:
        if self.on_error == "fail":
            raise CorpusError(f"{source} cannot be added: {reason}.", "Mend it, or leave it out.")
        self.skipped.append(Skipped(source, 0, reason))

    def flush(self) -> None:
        """Embed what is pending and commit it."""
        pending, self._pending, self._waiting = self._pending, [], 0
        moved, self._moved = self._moved, {}
        if not pending and not moved:
            return
        texts = [p.search_text for one in pending for p in one.passages]
        vectors = self._vectors(texts)
        with self._store.database.transaction():
            self._store.put(pending, vectors)
            self._store.move(moved)
        self._written += len(texts)
        if self._progress:
            self._progress(len(self._seen), self._written)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors (n, dim) of texts; what is stored already is not embedded again."""
        if not texts:
            return np.empty((0, 0), np.float32)
        hashes = [text_hash(text) for text in texts]
        known = self._store.vectors_of(hashes)
        new = {h: text for h, text in zip(hashes, texts, strict=True) if h not in known}
        if new:
            known |= zip(new, self._embedder().embed(list(new.values())), strict=True)
        return np.stack([known[h] for h in hashes])

    def remove_gone(self, scopes: Sequence[str] | None) -> None:
        """Remove the documents of `scopes` (origins; None: all) that this run has not seen.

        A file that is there but could not be read is not gone. When a source moved, so that its old
        place is no longer there, the old place is in scope too.
        """
        within = [*(scopes or ()), *(old for old in self._left if old and not self._exists(old))]
        self.remove(
            source
            for source, state in self._store.states().items()
            if source not in self._seen
            and (scopes is None or in_scope(state.origin, within))
            and not unreadable(source, self.skipped)
        )

    def remove(self, sources: Iterable[str]) -> None:
        """Remove documents, all in one commit."""
        if gone := list(sources):
            with self._store.database.transaction():
                self._store.remove(gone)
            self._removed += len(gone)

    def report(self) -> IndexReport:
        return IndexReport(
            added=self._added,
            updated=self._updated,
            unchanged=self._unchanged,
            removed=self._removed,
            skipped=tuple(self.skipped),
            passages=self._store.count_passages(),
            seconds=round(time.monotonic() - self._started, 3),
        )


def prepare(
    given: Input, digest: bytes, token_spans: TokenSpans, settings: IndexSettings, *, replaces: bool
) -> Entry:
    """Cut one item into passages."""
    item: Item = given.item
    if isinstance(item, Dialogue):
        document = dialogue_document(item)
        passages = chunk_dialogue(item, token_spans, chunk_tokens=settings.chunk_tokens)
    else:
        document = item
        passages = chunk_document(
            item, token_spans, chunk_tokens=settings.chunk_tokens, overlap=settings.overlap
        )
    return Entry(document, kind_of(item), given.origin, digest, passages, replaces)


@contextmanager
def shown_progress(progress: bool | Progress) -> Iterator[Progress | None]:
    """Yield what to call after each commit; True counts passages on standard error."""
    if progress is not True:
        yield progress or None
        return
    from tqdm import tqdm

    with tqdm(unit=" passages", leave=False) as bar:

        def show(documents: int, passages: int) -> None:
            bar.set_postfix(documents=documents)
            bar.update(passages - bar.n)

        yield show
