"""An index folder as it is written: built, added to, synchronized, and mended."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from rag_chat.config import PACKAGED_EMBEDDER, IndexSettings
from rag_chat.errors import EmbedderMismatch, IndexNotFound, UsageError
from rag_chat.index.database import Database, new_identity
from rag_chat.index.embedding import AnyEmbedder, load_embedder, precision_of, reference_of, same_embedder
from rag_chat.index.faults import write_errors
from rag_chat.index.ingest import IndexReport, Ingest, Progress, shown_progress
from rag_chat.index.inputs import (
    OBJECTS,
    Input,
    OnError,
    Source,
    check_sources,
    origin_of,
    read_inputs,
)
from rag_chat.index.lock import writer_lock
from rag_chat.index.opened import OpenedIndex
from rag_chat.index.packaged import verify_packaged
from rag_chat.index.sentence_transformer import require_bf16
from rag_chat.types import Dialogue, Document, Embedder, EmbedderIdentity, Skipped

T = TypeVar("T")

REEMBED_PASSAGES = 512  # embedded at a time, all in one transaction


class IndexFolder(OpenedIndex):
    """An index that can be changed: by one process at a time (IndexLocked for the second).

    `report` is what the last change did.
    """

    report: IndexReport | None = None

    @classmethod
    def build(
        cls,
        sources: Sequence[Source],
        path: str | Path,
        *,
        settings: IndexSettings | None = None,
        embedder: AnyEmbedder | None = None,
        on_error: OnError = "skip",
        columns: Mapping[str, str] | None = None,
        progress: bool | Progress = False,
    ) -> Self:
        """Make `path` the index of exactly these sources.

        An index that is there already is resumed and brought up to date; with another embedder or
        other chunk settings it is replaced, in one commit at the end. With on_error="fail"
        everything is read before anything is written. The embedder is `embedder`, or else the one
        that `settings` names; where nothing is new it is not loaded.
        """
        check_sources(sources)
        folder, chosen = Path(path), settings or IndexSettings()
        given = embedder or chosen.embedder
        if isinstance(given, str | Path) and chosen.embed_precision != "fp32":
            given = load_embedder(given, precision=chosen.embed_precision)
        wanted = dataclasses.replace(
            chosen, embedder=reference_of(given), embed_precision=precision_of(given)
        )
        if wanted.embed_precision == "bf16":
            require_bf16()
        first = None
        try:
            cls(folder).close()
        except IndexNotFound:
            given = first = load_embedder(given)
            _check_fit(first, wanted)
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with writer_lock(folder), shown_progress(progress) as shown:
            if first:
                Database.create(folder, _entries(first.identity, wanted))
            index = cls(folder, given)
            try:
                if not index._update(sources, wanted, on_error, columns, shown):
                    index._replace(sources, wanted, on_error, columns, shown)
            except BaseException:
                index.close()
                raise
        return index

    def add(
        self,
        sources: Sequence[Source],
        *,
        on_error: OnError = "skip",
        columns: Mapping[str, str] | None = None,
        progress: bool | Progress = False,
    ) -> IndexReport:
        """Add what is new and replace what changed; what is there already costs no embedding."""
        return self._take(sources, [], on_error, columns, progress)

    def sync(
        self,
        sources: Sequence[Source],
        *,
        on_error: OnError = "skip",
        columns: Mapping[str, str] | None = None,
        progress: bool | Progress = False,
    ) -> IndexReport:
        """Like `add`, and remove what came from these sources earlier and is gone from them.

        Documents of other sources stay. All items ever given as objects count as one source.
        """
        scopes = {
            OBJECTS if isinstance(one, Document | Dialogue) else origin_of(one, self.path) for one in sources
        }
        return self._take(sources, sorted(scopes), on_error, columns, progress)

    def remove(self, sources: Sequence[str]) -> IndexReport:
        """Remove documents by identity, by file ("a.jsonl": its records) or by folder ("topics/").

        Names that match nothing are reported as skipped.
        """
        with writer_lock(self.path):
            run = self._run()
            known = self.store.sources()
            gone = {name: [one for one in known if _names(name, one)] for name in sources}
            run.skipped += [Skipped(name, 0, "not in the index") for name in gone if not gone[name]]
            run.remove(dict.fromkeys(itertools.chain(*gone.values())))
            return self._finish(run)

    def rebuild(self, *, embedder: AnyEmbedder | None = None) -> None:
        """Make the lexical table and the FAISS file again from what is stored.

        With an embedder every passage is embedded anew, in one commit.
        """
        chosen = load_embedder(embedder) if embedder else None
        with writer_lock(self.path):
            with self._database.transaction():
                self.store.rebuild_lexical()
                if chosen:
                    self._reembed(chosen)
            if chosen:
                self._given = self._embedder = chosen
            self._derived.forget()
            self._publish()

    def _take(
        self,
        sources: Sequence[Source],
        scopes: Sequence[str],
        on_error: OnError,
        columns: Mapping[str, str] | None,
        progress: bool | Progress,
    ) -> IndexReport:
        check_sources(sources)
        run = self._run(on_error)
        inputs = self._read(sources, run, columns)
        with writer_lock(self.path), shown_progress(progress) as shown:
            run.take_all(inputs, shown)
            if scopes:
                run.remove_gone(scopes)
            return self._finish(run)

    def _run(self, on_error: OnError = "skip", settings: IndexSettings | None = None) -> Ingest:
        return Ingest(self.store, lambda: self.embedder, settings or self.settings, on_error=on_error)

    def _read(
        self, sources: Sequence[Source], run: Ingest, columns: Mapping[str, str] | None
    ) -> Iterable[Input]:
        return read_inputs(sources, self.path, on_error=run.on_error, columns=columns, skipped=run.skipped)

    def _update(
        self,
        sources: Sequence[Source],
        wanted: IndexSettings,
        on_error: OnError,
        columns: Mapping[str, str] | None,
        progress: Progress | None,
    ) -> bool:
        """Make the index hold exactly `sources`; return whether it could be kept for that.

        An embedder of the same name is taken to be the same one, until there is something to embed.
        """
        had = self.settings
        named_alike = bool(wanted.embedder) and (wanted.embedder, wanted.embed_precision) == (
            had.embedder,
            had.embed_precision,
        )
        if not named_alike and not same_embedder(self._loaded().identity, self.identity):
            return False
        if not _same_chunks(had, wanted):
            return False
        run = self._run(on_error, wanted)
        inputs = self._read(sources, run, columns)
        try:
            run.take_all(inputs, progress)
        except EmbedderMismatch:  # before anything was written
            return False
        if had != wanted:
            if had.recall != wanted.recall:
                self._derived.forget()
            identity = self.identity if named_alike else self._loaded().identity
            with self._database.transaction():
                self._database.set_meta(**_entries(identity, wanted))
        run.remove_gone(None)
        self._finish(run)
        return True

    def _replace(
        self,
        sources: Sequence[Source],
        wanted: IndexSettings,
        on_error: OnError,
        columns: Mapping[str, str] | None,
        progress: Progress | None,
    ) -> None:
        """Make the index anew, by `wanted` and the embedder that was given.

        It is one commit: until then readers, and whoever comes after a kill, have the old index.
        """
        identity = _check_fit(self._loaded(), wanted).identity
        run = self._run(on_error, wanted)
        inputs = self._read(sources, run, columns)
        with self._database.transaction():
            self.store.clear()
            self._database.set_meta(vectors=new_identity(), **_entries(identity, wanted))
            run.take_all(inputs, progress)
        self._finish(run)

    def _finish(self, run: Ingest) -> IndexReport:
        if self._database.meta("unswept"):
            self.store.forget_terms()
        self._database.sweep()
        self._publish()
        self.report = run.report()
        return self.report

    def _publish(self) -> None:
        with self.snapshot():
            self._derived.publish(self.settings)

    def _reembed(self, embedder: Embedder) -> None:
        settings = dataclasses.replace(
            self.settings, embedder=reference_of(embedder), embed_precision=precision_of(embedder)
        )
        for rows in _batched(self.store.all_passages(), REEMBED_PASSAGES):
            vectors = embedder.embed([passage.search_text for _, passage in rows])
            self.store.replace_vectors(rows, vectors)
        self._database.set_meta(vectors=new_identity(), **_entries(embedder.identity, settings))


def _entries(identity: EmbedderIdentity, settings: IndexSettings) -> dict[str, Any]:
    return {"embedder": dataclasses.asdict(identity), "settings": dataclasses.asdict(settings)}


def _same_chunks(one: IndexSettings, other: IndexSettings) -> bool:
    return (one.chunk_tokens, one.overlap) == (other.chunk_tokens, other.overlap)


def _check_fit(embedder: Embedder, settings: IndexSettings) -> Embedder:
    """Return the embedder; raises ModelError when it is damaged, UsageError when it reads too little."""
    if settings.embedder == PACKAGED_EMBEDDER:
        verify_packaged()
    most: int | None = getattr(embedder, "max_tokens", None)
    if most is not None and settings.chunk_tokens > most:
        raise UsageError(
            f"chunk_tokens is {settings.chunk_tokens}; {embedder.identity.name} reads {most}.",
            f"Set chunk_tokens (--chunk-tokens) to at most {most}.",
        )
    return embedder


def _names(name: str, source: str) -> bool:
    """Whether a name given to `remove` means a document: itself, its file, or its folder."""
    below = (name.endswith("/") and source.startswith(name)) or source.startswith(f"{name}#")
    return source == name or below


def _batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` (itertools.batched is not in Python 3.11)."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch
