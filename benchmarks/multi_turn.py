"""Multi-turn retrieval sets: turns with their history, and the documents that hold the evidence.

Read from a folder of public data sets (see `--data`), none of which is part of this repository.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_chat.corpus import read_sources
from rag_chat.types import Dialogue, Document, Message

ROOT = Path(__file__).parent.parent
CANARD_SECTIONS, DSTC11_PLACES = 150, 40
"""How much of the two larger sets is read, so that a laptop embeds them in minutes; the first by name."""


@dataclass(frozen=True, slots=True)
class Case:
    """One user turn; `gold`: documents that hold its evidence, `rewrite`: a person's stand-alone form."""

    dialogue: str
    question: str
    history: tuple[Message, ...]
    gold: frozenset[str]
    rewrite: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is searched, and the turns put to it."""

    name: str
    documents: Sequence[Document]
    cases: Sequence[Case]

    def part(self, which: str, most: int, seed: int = 0) -> list[Case]:
        """At most so many turns of the conversations set aside to "tune" or to "measure", half each."""
        cases = [case for case in self.cases if (_fraction(case.dialogue) < 0.5) == (which == "tune")]
        random.Random(seed).shuffle(cases)
        return cases[:most]


def _fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def load(name: str, data: Path) -> Corpus:
    """Read one of SETS from the folder of data sets."""
    documents, cases = SETS[name](data)
    return Corpus(name, documents, cases)


def _starter(_: Path) -> tuple[list[Document], list[Case]]:
    """The starter conversations; any passage of the article that the reply names is evidence."""
    documents = [d for d in read_sources([ROOT / "corpora/topics"]) if isinstance(d, Document)]
    whole = {document.source.split("topics/")[-1]: document.source for document in documents}
    cases = []
    for part in ("train", "dev"):
        for dialogue in read_sources([ROOT / f"corpora/dialogues/{part}.jsonl"]):
            if isinstance(dialogue, Dialogue):
                for i, reply in enumerate(dialogue.messages):
                    if reply.role == "assistant" and reply.sources and i:
                        gold = frozenset(whole[source] for source in reply.sources)
                        said = dialogue.messages
                        cases.append(Case(dialogue.id, said[i - 1].content, said[: i - 1], gold))
    return documents, cases


def _changed(_: Path) -> tuple[list[Document], list[Case]]:
    """The questions that open a starter conversation, asked in the midst of another one."""
    documents, cases = _starter(_)
    rng = random.Random(0)
    talks = [case for case in cases if len(case.history) > 1]
    changed = []
    for case in cases:
        if not case.history:
            other = rng.choice(talks)
            while other.gold & case.gold:
                other = rng.choice(talks)
            changed.append(replace(case, history=other.history))
    return documents, changed


def _canard(data: Path) -> tuple[list[Document], list[Case]]:
    """Wikipedia sections asked about in turn: the evidence of a turn is its answer, a document of its own.

    The conversation opens with the title of the article and of the section, as its participants saw it.
    """
    rows = list(_rows(data / "canard_part/train.jsonl.xz"))
    sections = set(sorted({row["dialog_id"] for row in rows})[:CANARD_SECTIONS])
    rows = [row for row in rows if row["dialog_id"] in sections]
    answers = {(r["dialog_id"], r["turn"] - 1): r["history"][-1] for r in rows if len(r["history"]) > 2}
    documents, cases = {}, []
    for row in rows:
        answer = answers.get((row["dialog_id"], row["turn"]), "")
        if len(answer.split()) < 4:  # "I don't know."
            continue
        title, section, *said = row["history"]
        source = f"{row['dialog_id']}/{row['turn']}"
        documents[source] = Document(source, f"{title}, {section}: {answer}", title)
        opening = (Message("user", f"{title}, {section}"),)
        history = (*opening, *_alternating(said))
        cases.append(Case(row["dialog_id"], row["question"], history, frozenset([source]), row["rewrite"]))
    return list(documents.values()), cases


def _dstc11(data: Path) -> tuple[list[Document], list[Case]]:
    """Hotels and restaurants: the evidence are reviews and frequent questions, a document each."""
    with lzma.open(data / "dstc11_val/knowledge.json.xz", "rt", encoding="utf-8") as file:
        knowledge = json.load(file)
    documents, places = [], set()
    for domain, entities in knowledge.items():
        for entity, facts in list(entities.items())[: DSTC11_PLACES // len(knowledge)]:
            places.add((domain, int(entity)))
            for kind, entries in (("review", facts["reviews"]), ("faq", facts.get("faqs", {}))):
                for number, entry in entries.items():
                    text = " ".join(entry["sentences"].values() if kind == "review" else entry.values())
                    source = f"{domain}/{entity}/{kind}/{number}"
                    documents.append(Document(source, f"{facts['name'].title()}: {text}", facts["name"]))
    cases = []
    for row in _rows(data / "dstc11_val/dialogues.jsonl.xz"):
        known = row["label"].get("knowledge", [])
        if known and (known[0]["domain"], known[0]["entity_id"]) in places:
            gold = frozenset(f"{k['domain']}/{k['entity_id']}/{k['doc_type']}/{k['doc_id']}" for k in known)
            *history, last = _speakers(row["log"], "speaker", "text", "U")
            cases.append(Case(row["log"][0]["text"], last.content, tuple(history), gold))
    return documents, cases


def _cookdial(data: Path) -> tuple[list[Document], list[Case]]:
    """Being walked through a recipe that nobody names: any passage of the recipe is evidence."""
    documents = []
    for recipe in _rows(data / "cookdial/recipes.jsonl.xz"):
        text = "\n".join([recipe["title"], *(line["text"] for line in recipe["content"])])
        documents.append(Document(recipe["id"], text, recipe["title"]))
    cases = []
    for row in _rows(data / "cookdial/dialogues.jsonl.xz"):
        said = [Message("assistant" if m["bot"] else "user", m["utterance"]) for m in row["messages"]]
        for i in range(3, len(said)):  # before that nothing tells which recipe it is
            if said[i].role == "assistant" and said[i - 1].role == "user":
                gold = frozenset([row["file"].split(".")[0]])
                cases.append(Case(row["file"], said[i - 1].content, tuple(said[: i - 1]), gold))
    return documents, cases


def _cmu_dog(data: Path) -> tuple[list[Document], list[Case]]:
    """Talk about a film: the evidence is the section of its article that was on the screen."""
    documents = []
    for film in _rows(data / "cmu_dog/wiki_documents.jsonl.xz"):
        name = film["0"]["movieName"]
        for section in "0123":
            text = film[section] if isinstance(film[section], str) else _facts(film[section])
            documents.append(Document(f"{film['wikiDocumentIdx']}/{section}", f"{name}. {text}", name))
    cases = []
    for row in _rows(data / "cmu_dog/conversations_train.jsonl.xz"):
        if row["rating"] < 2:
            continue
        for i in range(3, len(row["history"])):
            reply, turn = row["history"][i], row["history"][i - 1]
            if reply["uid"] in row["whoSawDoc"] and reply["uid"] != turn["uid"]:
                before = _speakers(row["history"][: i - 1], "uid", "text", turn["uid"])
                gold = frozenset([f"{row['wikiDocumentIdx']}/{reply['docIdx']}"])
                cases.append(Case(row["id"], turn["text"], tuple(before), gold))
    return documents, cases


def _facts(facts: dict[str, Any]) -> str:
    lines = [
        facts["introduction"],
        f"Director: {facts['director']}. Genre: {facts['genre']}. {facts['year']}",
    ]
    return "\n".join([*lines, "Cast: " + ", ".join(facts["cast"]), *facts["critical_response"]])


def _speakers(rows: Sequence[dict[str, Any]], who: str, what: str, user: str) -> list[Message]:
    return [
        Message("user" if row[who] == user else "assistant", row[what]) for row in rows if row[what].strip()
    ]


def _alternating(said: Sequence[str]) -> Iterator[Message]:
    for i, text in enumerate(said):
        yield Message("assistant" if i % 2 else "user", text)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


SETS: dict[str, Callable[[Path], tuple[list[Document], list[Case]]]] = {
    "starter": _starter,
    "changed": _changed,
    "canard": _canard,
    "dstc11": _dstc11,
    "cookdial": _cookdial,
    "cmu_dog": _cmu_dog,
}
