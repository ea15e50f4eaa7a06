"""`rag-chat run`: from corpora to a report in one command, which goes on where it was stopped.

A recipe is TOML; paths are relative to it:

    output = "my-bot"
    [corpora]
    topics = ["docs"]
    dialogues = ["chats.jsonl"]
    test = []                  # held-out conversations; by default they are split from `dialogues`
    dev = []
    [split]
    test = 0.1
    dev = 0.1
    seed = 13
    [index]                    # any of IndexSettings
    [train]                    # base, and any of TrainingSettings
    [eval]                     # arms, k
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from rag_chat.commands.evaluate import ARMS, evaluated, models_of, write_report
from rag_chat.commands.opening import resolve_model
from rag_chat.commands.options import json_option
from rag_chat.commands.printing import emit, note, note_skipped, say
from rag_chat.config import IndexSettings, TrainingSettings, from_mapping
from rag_chat.errors import CorpusError, RagChatError, UsageError
from rag_chat.index.lock import LOCK_FILE
from rag_chat.types import Skipped

MANIFEST = "manifest.json"
Kind = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether it is."""

_TEXT: Kind = "text", lambda value: isinstance(value, str)
_LIST: Kind = "a list of texts", lambda value: isinstance(value, list) and all(map(_TEXT[1], value))
_SHARE: Kind = "a share between 0 and 1, as in 0.1", lambda value: type(value) is float and 0 < value < 1
_SEED: Kind = "a whole number", lambda value: type(value) is int
_COUNT: Kind = "a whole number, at least 1", lambda value: type(value) is int and value >= 1
KNOWN: Mapping[str, Mapping[str, Kind]] = {
    "corpora": {"topics": _LIST, "dialogues": _LIST, "dev": _LIST, "test": _LIST},
    "split": {"dev": _SHARE, "test": _SHARE, "seed": _SEED},
    "index": {},
    "train": {"base": _TEXT},
    "eval": {"arms": _LIST, "k": _COUNT},
}
_SETTINGS = ("index", "train")  # of which `from_mapping` knows the other names
_PASSING = ("-wal", "-shm", LOCK_FILE)  # SQLite's files while it is open, and the lock: no artefacts


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make, and from what. `split` are shares in (0, 1) and a seed."""

    output: Path
    topics: tuple[Path, ...]
    dialogues: tuple[Path, ...]
    dev: tuple[Path, ...]
    test: tuple[Path, ...]
    split: Mapping[str, Any]
    index: IndexSettings
    base: str
    train: TrainingSettings
    arms: tuple[str, ...]
    k: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A step, done again when a result or `key` (settings, inputs, the step before) changed."""

    name: str
    results: tuple[Path, ...]
    key: str
    work: Callable[[], None]


@click.command("run")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def run(recipe: Path, as_json: bool) -> None:
    """Do all of a recipe: split, index, train, evaluate, report.

    Run again, it goes on where it was stopped, and does again only what a change makes stale. Every
    result is in manifest.json with its SHA-256.
    """
    manifest = cook(read_recipe(recipe))
    if as_json:
        emit(manifest)
    else:
        say(manifest["verdict"])


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises CorpusError for what is not TOML, UsageError for a name that is not known."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} is not a recipe: {error}.", "See: rag-chat run --help") from error
    _check(path, given)
    corpora, train, scored = (dict(given.get(part, {})) for part in ("corpora", "train", "eval"))
    places = {name: tuple(path.parent / one for one in corpora.get(name, ())) for name in KNOWN["corpora"]}
    for one in (one for paths in places.values() for one in paths if not one.exists()):
        raise CorpusError(f"There is no file or folder {one}.", f"Paths are relative to {path.parent}.")
    base = train.pop("base", "reader")
    split = {"dev": 0.1, "test": 0.1, "seed": 13, **given.get("split", {})}
    arms = tuple(scored.get("arms", ARMS))
    if unknown := set(arms) - set(ARMS):
        raise UsageError(f"There is no arm {min(unknown)!r}.", f"There are {', '.join(ARMS)}.")
    return Recipe(
        output=path.parent / given.get("output", path.stem),
        **places,
        split=split,
        index=from_mapping(IndexSettings, given.get("index", {})),
        base=str(path.parent / base) if (path.parent / base).is_dir() else resolve_model(base),
        train=from_mapping(TrainingSettings, train),
        arms=arms,
        k=scored.get("k", 5),
    )


def _check(path: Path, given: Mapping[str, Any]) -> None:
    for part, content in given.items():
        if part == "output":
            _check_value(f"{path}: output", content, _TEXT)
            continue
        if part not in KNOWN or not isinstance(content, dict):
            raise UsageError(
                f"{path} has an unknown part {part!r}.", f"There are output, {', '.join(KNOWN)}."
            )
        known = KNOWN[part]
        for name, value in content.items():
            if name in known:
                _check_value(f"{path}: [{part}] {name}", value, known[name])
            elif part not in _SETTINGS:
                raise UsageError(f"{path}: [{part}] has no {name!r}.", f"It has {', '.join(known)}.")
    if not given.get("corpora", {}).get("dialogues") or not given["corpora"].get("topics"):
        raise UsageError(f"{path} names no topics or no dialogues.", "Add both under [corpora].")


def _check_value(name: str, value: Any, kind: Kind) -> None:
    words, fits = kind
    if not fits(value):
        raise UsageError(f"{name} cannot be {value!r}.", f"Give {words}.")


def cook(recipe: Recipe) -> dict[str, Any]:
    """Do every stage that is not done yet; returns the manifest, which is also in the output folder."""
    recipe.output.mkdir(parents=True, exist_ok=True)
    manifest = _read_manifest(recipe.output)
    done = {stage["name"]: stage for stage in manifest["stages"]}
    kept = []
    for stage in _stages(recipe):
        known = done.get(stage.name)
        if known and known["key"] == stage.key and known["results"] == _hashes(stage.results, recipe.output):
            note(f"{stage.name}: done already")
            kept.append(known)
            continue
        note(f"{stage.name} ...")
        started = time.monotonic()
        stage.work()
        seconds = round(time.monotonic() - started, 1)
        results = _hashes(stage.results, recipe.output)
        kept.append({"name": stage.name, "key": stage.key, "seconds": seconds, "results": results})
        _write_manifest(recipe.output, {"stages": kept})
    verdict = json.loads((recipe.output / "report" / "report.json").read_text(encoding="utf-8"))["verdict"]
    manifest = {"stages": kept, "verdict": verdict}
    _write_manifest(recipe.output, manifest)
    return manifest


def _stages(recipe: Recipe) -> list[Stage]:
    """The stages in order; the key of each holds the key of the one before."""
    out = recipe.output
    parts = tuple(out / "dialogues" / f"{part}.jsonl" for part in ("train", "dev", "test"))
    given = [*recipe.topics, *recipe.dialogues, *recipe.dev, *recipe.test, *_folders(recipe.base)]
    plan: list[tuple[str, tuple[Path, ...], Any, Callable[[], None]]] = [
        ("split", parts, [_hashes(given, out), dict(recipe.split)], lambda: _split(recipe, parts)),
        ("index", (out / "index",), asdict(recipe.index), lambda: _index(recipe, parts[0])),
        ("train", (out / "model",), [recipe.base, asdict(recipe.train)], lambda: _train(recipe, parts)),
        ("eval", (out / "report",), [recipe.arms, recipe.k], lambda: _evaluate(recipe, parts[2])),
    ]
    stages, before = [], ""
    for name, results, settings, work in plan:
        before = hashlib.sha256(json.dumps([before, name, settings], sort_keys=True).encode()).hexdigest()
        stages.append(Stage(name, results, before, work))
    return stages


def _split(recipe: Recipe, parts: Sequence[Path]) -> None:
    from rag_chat.corpus.writing import write_dialogues
    from rag_chat.training.run import read_dialogues

    skipped: list[Skipped] = []
    rest, dev, test = (read_dialogues(p, skipped) for p in (recipe.dialogues, recipe.dev, recipe.test))
    note_skipped(skipped)
    random.Random(recipe.split["seed"]).shuffle(rest)
    for part, name in ((test, "test"), (dev, "dev")):
        if not part:
            share = max(1, round(recipe.split[name] * len(rest)))
            part += rest[:share]
            rest = rest[share:]
    if not rest:
        raise UsageError(
            "There are too few conversations to split.", "Give more dialogues, or smaller shares."
        )
    parts[0].parent.mkdir(exist_ok=True)
    for dialogues, path in zip((rest, dev, test), parts, strict=True):
        write_dialogues(dialogues, path)


def _index(recipe: Recipe, dialogues: Path) -> None:
    from rag_chat.retrieval.index import Index

    Index.build([*recipe.topics, dialogues], recipe.output / "index", settings=recipe.index).close()


def _train(recipe: Recipe, parts: Sequence[Path]) -> None:
    """Train, or go on; a model that is worse than its base is kept all the same: the report says so."""
    from rag_chat import training

    with contextlib.redirect_stdout(sys.stderr):  # the trainer prints its progress
        training.train(
            [parts[0]],
            recipe.output / "model",
            index=recipe.output / "index",
            base=recipe.base,
            dev=[parts[1]],
            settings=recipe.train,
            resume=True,
            force=True,
        )


def _evaluate(recipe: Recipe, test: Path) -> None:
    models = models_of(str(recipe.output / "model"), recipe.base, recipe.arms)
    report = evaluated([test], recipe.output / "index", models, recipe.k)
    write_report(report, recipe.output / "report")


# --- The manifest ----------------------------------------------------------------------------------


def _hashes(places: Sequence[Path], root: Path) -> dict[str, str]:
    """The SHA-256 of every file at and below these places, by its path."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {
        file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file): _sha256(file)
        for file in files
        if file.is_file() and not file.name.endswith(_PASSING)
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folders(base: str) -> list[Path]:
    """A base model that is a folder is an input like any other."""
    return [Path(base)] if Path(base).is_dir() else []


def _read_manifest(output: Path) -> dict[str, Any]:
    path = output / MANIFEST
    if not path.exists():
        return {"stages": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"stages": [{**one, "results": dict(one["results"])} for one in found["stages"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RagChatError(
            f"{path} is damaged: {error!r}.", "Remove it: everything is then done again."
        ) from error


def _write_manifest(output: Path, manifest: Mapping[str, Any]) -> None:
    """In one step: a kill leaves the manifest before or the one after."""
    fresh = output / f"{MANIFEST}.new"
    fresh.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    fresh.replace(output / MANIFEST)
