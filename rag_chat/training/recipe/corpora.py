"""One function a public corpus: its folder becomes exercises, without what is set aside."""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rag_chat.training.recipe.exercises import (
    Exercises,
    Shown,
    among,
    exercise,
    joined,
    read_rows,
    sentence_with,
    set_aside,
    window,
)
from rag_chat.types import Message

PROSE = ("openstax", "wikitext", "government", "technical_books", "handbooks")


def paragraphs(data: Path, seed: int) -> list[Shown]:
    """Titles and texts of all prose, shuffled."""
    rows = [row for name in PROSE for row in read_rows(data / "prose" / f"{name}.jsonl.xz")]
    found = [(row["title"] if len(row["title"]) < 60 else "", row["text"]) for row in rows]
    random.Random(seed).shuffle(found)
    return found


def squad(data: Path, rng: random.Random, *, whole: float = 0.4) -> Exercises:
    """SQuAD questions over a window of their paragraph, beside others of the same article.

    A share of the answers, `whole`, is the whole sentence that holds the answer.
    """
    rows = [row for row in read_rows(data / "squad_half" / "train.jsonl.xz") if not set_aside(row["title"])]
    articles: dict[str, list[str]] = {}
    for row in rows:
        texts = articles.setdefault(row["title"], [])
        if row["context"] not in texts:
            texts.append(row["context"])
    for number, row in enumerate(rows):
        title = row["title"].replace("_", " ")
        answer = min(row["answers"], key=len) if row["answerable"] else ""
        text = window(row["context"], answer, rng)
        others = [(title, window(t, "", rng)) for t in articles[row["title"]] if t != row["context"]]
        shown = among((title, text), others, rng)
        if answer and rng.random() < whole:
            answer = sentence_with(answer, text) or answer
        if answer and rng.random() < 0.06:  # the evidence is not among the passages
            answer, shown = "", rng.sample(others, min(2, len(others)))
        yield exercise(f"squad-{number}", row["question"], answer, shown)


def qed(data: Path, rng: random.Random) -> Exercises:
    """Natural Questions with the sentence that answers them."""
    rows = [row for row in read_rows(data / "qed_dev" / "data.jsonl.xz") if not set_aside(row["title"])]
    others = [(r["title"], window(joined(r["context"]), "", rng)) for r in rows]
    for number, row in enumerate(rows):
        answer, text = joined(row["answers"][0]), joined(row["context"])
        shown = among((row["title"], window(text, answer, rng)), others, rng)
        yield exercise(f"qed-{number}", row["question"], answer, shown)
        sentence = joined(row["evidence"] or "")
        if 5 < len(sentence.split()) < 40:
            yield exercise(f"qed-{number}-sentence", row["question"], sentence, shown)


def quoref(data: Path, rng: random.Random) -> Exercises:
    """Questions whose answer is a person or thing that the passage refers to by other words."""
    for number, (text, question, answer) in enumerate(quoref_rows(data)):
        if not set_aside(text[:60]):
            yield exercise(f"quoref-{number}", question, answer, [("", window(text, answer, rng))])


def quoref_rows(data: Path) -> Iterator[tuple[str, str, str]]:
    """Passage, question and answer of each instance."""
    path = data / "superni_quoref" / "train.json.xz"
    if path.is_file():
        with lzma.open(path, "rt", encoding="utf-8") as file:
            instances = json.load(file)["Instances"]
        for one in instances:
            text, _, question = one["input"].removeprefix("Passage: ").rpartition("\nQuestion: ")
            yield text.strip(), question.strip(), one["output"][0].rstrip(".")


def covid_qa(data: Path, _: random.Random) -> Exercises:
    """Questions on research papers, over the sentences around the answer."""
    for row in read_rows(data / "covid_qa" / "covid_qa.jsonl.xz"):
        if set_aside(str(row["document_id"])):
            continue
        for asked in row["qas"]:
            answer = asked["answers"][0]
            start = answer["answer_start"]
            around = row["context"][max(0, start - 250) : start + len(answer["text"]) + 250]
            text = " ".join(around.split()[1:-1])
            if len(answer["text"].split()) <= 40:
                gold = " ".join(answer["text"].split())
                yield exercise(f"covid-{asked['id']}", asked["question"], gold, [("", text)])


def adversarial_qa(data: Path, rng: random.Random) -> Exercises:
    """Questions written to be hard for a reader."""
    form = re.compile(r'Question: "(.*?)"\s+Context: "(.*)"\s+Answer:', re.DOTALL)
    for number, row in enumerate(read_rows(data / "t0_grounded_qa" / "prompts_train.jsonl.xz")):
        found = form.match(row["prompt"]) if "question_context_answer" in row["template"] else None
        if found and not set_aside(found[2][:60]):
            text = window(found[2], row["completion"], rng)
            yield exercise(f"adversarial-{number}", found[1], row["completion"], [("", text)])


def dstc11(data: Path, rng: random.Random) -> Exercises:
    """Hotel and restaurant questions answered from guests' reviews and common questions."""
    folder = data / "dstc11_val"
    if not folder.is_dir():
        return
    with lzma.open(folder / "knowledge.json.xz", "rt", encoding="utf-8") as file:
        knowledge = json.load(file)
    for number, row in enumerate(read_rows(folder / "dialogues.jsonl.xz")):
        if not row["label"]["target"] or set_aside(row["log"][0]["text"]):
            continue
        facts = [_snippet(knowledge, item) for item in row["label"]["knowledge"]]
        names = sorted({name for name, _ in facts})
        shown = [(name, " ".join(text for other, text in facts if other == name)) for name in names]
        said = [
            Message("user" if turn["speaker"] == "U" else "assistant", turn["text"]) for turn in row["log"]
        ]
        answer = row["label"]["response"]
        shown = [(title, " ".join(text.split()[:90])) for title, text in shown]
        if len(answer.split()) <= 40 and rng.random() < 0.7:
            yield exercise(f"dstc11-{number}", said[-1].content, answer, shown, said[-3:-1])


def _snippet(knowledge: Any, item: dict[str, Any]) -> Shown:
    entity = knowledge[item["domain"]][str(item["entity_id"])]
    if item["doc_type"] == "review":
        sentences = entity["reviews"][str(item["doc_id"])]["sentences"]
        return entity["name"], sentences[str(item["sent_id"])]
    faq = entity["faqs"][str(item["doc_id"])]
    return entity["name"], f"{faq['question']} {faq['answer']}"


def cookdial(data: Path, rng: random.Random) -> Exercises:
    """A cook asks for steps and amounts; the recipe is the passage."""
    recipes = {row["id"]: row for row in read_rows(data / "cookdial" / "recipes.jsonl.xz")}
    for row in read_rows(data / "cookdial" / "dialogues.jsonl.xz"):
        recipe, said = recipes[row["file"][:3]], row["messages"]
        if set_aside(recipe["id"]):
            continue
        passage = (recipe["title"], " ".join(part["text"] for part in recipe["content"]))
        turns = [Message("assistant" if turn["bot"] else "user", turn["utterance"]) for turn in said]
        places = [
            i for i in range(1, len(turns)) if (turns[i - 1].role, turns[i].role) == ("user", "assistant")
        ]
        for i in rng.sample(places, min(4, len(places))):
            name = f"cookdial-{row['file']}-{i}"
            yield exercise(
                name, turns[i - 1].content, turns[i].content, [passage], turns[max(0, i - 3) : i - 1]
            )


def glossary(data: Path, rng: random.Random) -> Exercises:
    """What a term means, among the definitions of other terms."""
    rows = read_rows(data / "prose" / "openstax_glossary.jsonl.xz")
    shown = [(row["title"], row["text"]) for row in rows if 5 <= len(row["text"].split()) <= 30]
    forms = ("what is {}?", "what does {} mean", "define {}", "What is meant by {}?", "{}?")
    for number, (term, text) in enumerate(rng.sample(shown, min(3_000, len(shown)))):
        question = rng.choice(forms).format(term)
        passages = among((term, text), shown, rng)
        if rng.random() < 0.1:
            yield exercise(f"glossary-{number}", question, "", rng.sample(shown, 2))
        else:
            answer = f"{term[:1].upper()}{term[1:]} is {text.rstrip('.')}."
            yield exercise(f"glossary-{number}", question, answer, passages)


def factbook(data: Path, rng: random.Random) -> Exercises:
    """Facts of countries, asked by field, among other fields and other countries."""
    rows = list(read_rows(data / "topics" / "world_factbook" / "passages.jsonl.xz"))
    rows = [row for row in rows if 1 <= len(row["text"].split()) <= 20 and "total:" not in row["text"]]
    forms = ("What is the {0} of {1}?", "{1} {0}", "tell me the {0} of {1}", "{0} in {1}?")
    for number in range(3_000 if rows else 0):
        place = rng.randrange(len(rows))
        row = rows[place]
        near = [(f"{r['title']} > {r['field']}", r["text"]) for r in rows[place + 1 : place + 4]]
        far = rng.choice(rows)
        near.append((f"{far['title']} > {far['field']}", far["text"]))
        question = rng.choice(forms).format(row["field"].lower(), row["title"])
        gold = (f"{row['title']} > {row['field']}", row["text"])
        if rng.random() < 0.1:
            yield exercise(f"factbook-{number}", question, "", rng.sample(near, 2))
        else:
            yield exercise(f"factbook-{number}", question, row["text"], among(gold, near, rng))


def small_talk(data: Path, rng: random.Random) -> Exercises:
    """Small talk, with a passage beside it that has nothing to do with it."""
    rows = list(read_rows(data / "qna_chitchat_professional" / "qa.jsonl.xz"))
    prose = [(title, window(text, "", rng)) for title, text in paragraphs(data, 13)[:2_000]]
    for number, row in enumerate(rng.sample(rows, min(500, len(rows)))):
        shown = rng.sample(prose, min(1, len(prose)))
        yield exercise(f"small-talk-{number}", row["question"], row["answer"], shown)


READING: tuple[Callable[[Path, random.Random], Exercises], ...] = (
    squad,
    qed,
    quoref,
    covid_qa,
    adversarial_qa,
    dstc11,
    cookdial,
    glossary,
    factbook,
    small_talk,
)
