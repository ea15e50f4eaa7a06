"""An index folder as it is written: built, added to, synchronized, and mended."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from rag_chat.config import PACKAGED_EMBEDDER, IndexSettings
from rag_chat.errors import UsageError
from rag_chat.index.database import Database, new_identity
from rag_chat.index.embedding import AnyEmbedder, load_embedder, same_embedder
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
        that `settings` names.
        """
        check_sources(sources)
        folder = Path(path)
        chosen = load_embedder(embedder or (settings or IndexSettings()).embedder)
        reference = getattr(chosen, "reference", "")
        wanted = dataclasses.replace(settings or IndexSettings(), embedder=reference)
        if reference == PACKAGED_EMBEDDER:
            verify_packaged()
        _check_length(chosen, wanted)
        skipped: list[Skipped] = []
        inputs: Iterable[Input] = read_inputs(
            sources, folder, on_error=on_error, columns=columns, skipped=skipped
        )
        if on_error == "fail":
            inputs = list(inputs)
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with writer_lock(folder), shown_progress(progress) as shown:
            Database.create(folder, _entries(chosen.identity, wanted))
            index = cls(folder, chosen)
            try:
                index._fill(index._run(wanted, skipped, on_error, shown), inputs, wanted)
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
        skipped: list[Skipped] = []
        with writer_lock(self.path):
            run = self._run(self.settings, skipped)
            known = self.store.sources()
            gone = {name: [one for one in known if _names(name, one)] for name in sources}
            skipped += [Skipped(name, 0, "not in the index") for name in gone if not gone[name]]
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
        skipped: list[Skipped] = []
        inputs: Iterable[Input] = read_inputs(
            sources, self.path, on_error=on_error, columns=columns, skipped=skipped
        )
        if on_error == "fail":
            inputs = list(inputs)
        with writer_lock(self.path), shown_progress(progress) as shown:
            run = self._run(self.settings, skipped, on_error, shown)
            run.take_all(inputs)
            if scopes:
                run.remove_gone(scopes)
            return self._finish(run)

    def _run(
        self,
        settings: IndexSettings,
        skipped: list[Skipped],
        on_error: OnError = "skip",
        progress: Progress | None = None,
    ) -> Ingest:
        return Ingest(
            self.store,
            lambda: self.embedder,
            settings,
            skipped=skipped,
            on_error=on_error,
            progress=progress,
        )

    def _fill(self, run: Ingest, inputs: Iterable[Input], wanted: IndexSettings) -> None:
        """Make the index hold exactly `inputs`, by `wanted` and the embedder that was given."""
        identity = self._load_embedder().identity
        if same_embedder(identity, self.identity) and _same_chunks(self.settings, wanted):
            if self.settings != wanted:
                with self._database.transaction():
                    self._database.set_meta(**_entries(identity, wanted))
            run.take_all(inputs)
            run.remove_gone(None)
        else:  # one commit: until then readers, and whoever comes after a kill, have the old index
            with self._database.transaction():
                self.store.clear()
                self._database.set_meta(vectors=new_identity(), **_entries(identity, wanted))
                run.take_all(inputs)
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
            self._derived.publish(self.settings.index_type)

    def _reembed(self, embedder: Embedder) -> None:
        reference = getattr(embedder, "reference", "")
        settings = dataclasses.replace(self.settings, embedder=reference)
        for rows in _batched(self.store.all_passages(), REEMBED_PASSAGES):
            vectors = embedder.embed([passage.search_text for _, passage in rows])
            self.store.replace_vectors(rows, vectors)
        self._database.set_meta(vectors=new_identity(), **_entries(embedder.identity, settings))


def _entries(identity: EmbedderIdentity, settings: IndexSettings) -> dict[str, Any]:
    return {"embedder": dataclasses.asdict(identity), "settings": dataclasses.asdict(settings)}


def _same_chunks(one: IndexSettings, other: IndexSettings) -> bool:
    return (one.chunk_tokens, one.overlap) == (other.chunk_tokens, other.overlap)


def _check_length(embedder: Embedder, settings: IndexSettings) -> None:
    """Raise UsageError when the embedder would not read passages to their end."""
    most: int | None = getattr(embedder, "max_tokens", None)
    if most is not None and settings.chunk_tokens > most:
        raise UsageError(
            f"chunk_tokens is {settings.chunk_tokens}; {embedder.identity.name} reads {most}.",
            f"Set chunk_tokens (--chunk-tokens) to at most {most}.",
        )


def _names(name: str, source: str) -> bool:
    """Whether a name given to `remove` means a document: itself, its file, or its folder."""
    below = (name.endswith("/") and source.startswith(name)) or source.startswith(f"{name}#")
    return source == name or below


def _batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` (itertools.batched is not in Python 3.11)."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch
