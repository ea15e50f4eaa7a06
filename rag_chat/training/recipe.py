"""The training data of the packaged reader, made from public corpora by one seeded command.

    python -m rag_chat.training.recipe DATA OUT

DATA is a folder that holds the public corpora (their names are those of the functions below; what is
absent is left out), OUT gets `cloze.jsonl`, `reading.jsonl` and `replay.jsonl`: dialogues whose replies
carry their passages, so that `rag-chat train` reads them like any other. Only what may be trained on is
used, and the SQuAD articles set aside for evaluation are never in DATA.
"""

from __future__ import annotations

import json
import logging
import lzma
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rag_chat.corpus.writing import write_dialogues
from rag_chat.training.cloze import cloze_dialogues, sentences
from rag_chat.types import Dialogue, Message, Passage

_log = logging.getLogger(__name__)

SEED = 13
REPLAYED = 3_500
NO_ANSWER = "I could not find that in my documents."
PROSE = ("openstax", "wikitext", "government", "technical_books", "handbooks")

Shown = tuple[str, str]  # title and text of a passage
Exercises = Iterator[Dialogue]


def main(data: Path, out: Path) -> None:
    """Write both files, and log how much each corpus gave."""
    out.mkdir(parents=True, exist_ok=True)
    cloze = list(cloze_dialogues(_paragraphs(data), seed=SEED))
    write_dialogues(cloze[:60_000], out / "cloze.jsonl")
    reading = cloze[60_000:68_000]
    for make in (squad, qed, covid_qa, adversarial_qa, dstc11, glossary, factbook, small_talk):
        made = list(make(data, random.Random(SEED)))
        _log.info("%s: %d exercises", make.__name__, len(made))
        reading += made
    random.Random(SEED).shuffle(reading)
    write_dialogues(reading, out / "reading.jsonl")
    write_dialogues(replay(data, random.Random(SEED + 1)), out / "replay.jsonl")


def exercise(
    name: str,
    question: str,
    answer: str,
    shown: Sequence[Shown],
    history: Sequence[Message] = (),
) -> Dialogue:
    """One question with its passages; an empty answer is an abstention."""
    passages = tuple(
        Passage(f"given#{i}", f"given#{i}", title, text, 0, len(text), context=title)
        for i, (title, text) in enumerate(shown)
    )
    reply = Message("assistant", answer or NO_ANSWER, passages=passages, abstained=not answer)
    return Dialogue(name, (*history, Message("user", question), reply))


def replay(data: Path, rng: random.Random) -> list[Dialogue]:
    """Questions answered by whole sentences, as dialogues are: for going on reading while tuning on those."""
    made = [*squad(data, rng, whole=1.0), *qed(data, rng), *glossary(data, rng)]
    sized = [one for one in made if 5 <= len(_answer(one).split()) <= 30]
    return rng.sample(sized, min(REPLAYED, len(sized)))


def _answer(dialogue: Dialogue) -> str:
    reply = dialogue.messages[-1]
    return "" if reply.abstained else reply.content


def squad(data: Path, rng: random.Random, *, whole: float = 0.4) -> Exercises:
    """SQuAD questions over a window of their paragraph, beside others of the same article.

    A share of the answers, `whole`, is the whole sentence that holds the answer.
    """
    rows = list(_rows(data / "squad_half" / "train.jsonl.xz"))
    articles: dict[str, list[str]] = {}
    for row in rows:
        texts = articles.setdefault(row["title"], [])
        if row["context"] not in texts:
            texts.append(row["context"])
    for number, row in enumerate(rows):
        title = row["title"].replace("_", " ")
        answer = min(row["answers"], key=len) if row["answerable"] else ""
        text = _window(row["context"], answer, rng)
        others = [(title, _window(t, "", rng)) for t in articles[row["title"]] if t != row["context"]]
        shown = _among((title, text), others, rng)
        if answer and rng.random() < whole:
            answer = _sentence_with(answer, text) or answer
        if answer and rng.random() < 0.06:  # the evidence is not among the passages
            answer, shown = "", rng.sample(others, min(2, len(others)))
        yield exercise(f"squad-{number}", row["question"], answer, shown)


def qed(data: Path, rng: random.Random) -> Exercises:
    """Natural Questions with the sentence that answers them."""
    rows = list(_rows(data / "qed_dev" / "data.jsonl.xz"))
    others = [(r["title"], _window(_joined(r["context"]), "", rng)) for r in rows]
    for number, row in enumerate(rows):
        answer, text = _joined(row["answers"][0]), _joined(row["context"])
        shown = _among((row["title"], _window(text, answer, rng)), others, rng)
        yield exercise(f"qed-{number}", row["question"], answer, shown)
        sentence = _joined(row["evidence"] or "")
        if 5 < len(sentence.split()) < 40:
            yield exercise(f"qed-{number}-sentence", row["question"], sentence, shown)


def covid_qa(data: Path, rng: random.Random) -> Exercises:
    """Questions on research papers, over the sentences around the answer."""
    for row in _rows(data / "covid_qa" / "covid_qa.jsonl.xz"):
        for asked in row["qas"]:
            answer = asked["answers"][0]
            start = answer["answer_start"]
            around = row["context"][max(0, start - 250) : start + len(answer["text"]) + 250]
            text = " ".join(around.split()[1:-1])
            if len(answer["text"].split()) <= 40:
                gold = " ".join(answer["text"].split())
                shown = _among(("", text), [], rng)
                yield exercise(f"covid-{asked['id']}", asked["question"], gold, shown)


def adversarial_qa(data: Path, rng: random.Random) -> Exercises:
    """Questions written to be hard for a reader."""
    form = re.compile(r'Question: "(.*?)"\s+Context: "(.*)"\s+Answer:', re.DOTALL)
    for number, row in enumerate(_rows(data / "t0_grounded_qa" / "prompts_train.jsonl.xz")):
        found = form.match(row["prompt"]) if "question_context_answer" in row["template"] else None
        if found:
            text = _window(found[2], row["completion"], rng)
            yield exercise(f"adversarial-{number}", found[1], row["completion"], [("", text)])


def dstc11(data: Path, rng: random.Random) -> Exercises:
    """Hotel and restaurant questions answered from guests' reviews and common questions."""
    folder = data / "dstc11_val"
    if not folder.is_dir():
        return
    with lzma.open(folder / "knowledge.json.xz", "rt", encoding="utf-8") as file:
        knowledge = json.load(file)
    for number, row in enumerate(_rows(folder / "dialogues.jsonl.xz")):
        if not row["label"]["target"]:
            continue
        facts = [_snippet(knowledge, item) for item in row["label"]["knowledge"]]
        shown = [(name, " ".join(t for n, t in facts if n == name)) for name in {n for n, _ in facts}]
        said = [
            Message("user" if turn["speaker"] == "U" else "assistant", turn["text"]) for turn in row["log"]
        ]
        answer = row["label"]["response"]
        shown = [(title, " ".join(text.split()[:90])) for title, text in sorted(shown)]
        if len(answer.split()) <= 40 and rng.random() < 0.7:
            yield exercise(f"dstc11-{number}", said[-1].content, answer, shown, said[-3:-1])


def _snippet(knowledge: Any, item: dict[str, Any]) -> Shown:
    entity = knowledge[item["domain"]][str(item["entity_id"])]
    if item["doc_type"] == "review":
        sentences = entity["reviews"][str(item["doc_id"])]["sentences"]
        return entity["name"], sentences[str(item["sent_id"])]
    faq = entity["faqs"][str(item["doc_id"])]
    return entity["name"], f"{faq['question']} {faq['answer']}"


def glossary(data: Path, rng: random.Random) -> Exercises:
    """What a term means, among the definitions of other terms."""
    rows = list(_rows(data / "prose" / "openstax_glossary.jsonl.xz"))
    shown = [(row["title"], row["text"]) for row in rows if 5 <= len(row["text"].split()) <= 30]
    forms = ("what is {}?", "what does {} mean", "define {}", "What is meant by {}?", "{}?")
    for number, (term, text) in enumerate(rng.sample(shown, min(3_000, len(shown)))):
        question = rng.choice(forms).format(term)
        passages = _among((term, text), shown, rng)
        if rng.random() < 0.1:
            yield exercise(f"glossary-{number}", question, "", rng.sample(shown, 2))
        else:
            answer = f"{term[:1].upper()}{term[1:]} is {text.rstrip('.')}."
            yield exercise(f"glossary-{number}", question, answer, passages)


def factbook(data: Path, rng: random.Random) -> Exercises:
    """Facts of countries, asked by field, among other fields and other countries."""
    rows = list(_rows(data / "topics" / "world_factbook" / "passages.jsonl.xz"))
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
            yield exercise(f"factbook-{number}", question, row["text"], _among(gold, near, rng))


def small_talk(data: Path, rng: random.Random) -> Exercises:
    """Small talk, with a passage beside it that has nothing to do with it."""
    rows = list(_rows(data / "qna_chitchat_professional" / "qa.jsonl.xz"))
    prose = [(title, _window(text, "", rng)) for title, text in _paragraphs(data)[:2_000]]
    for number, row in enumerate(rng.sample(rows, min(500, len(rows)))):
        shown = rng.sample(prose, min(1, len(prose)))
        yield exercise(f"small-talk-{number}", row["question"], row["answer"], shown)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def _paragraphs(data: Path) -> list[Shown]:
    rows = [row for name in PROSE for row in _rows(data / "prose" / f"{name}.jsonl.xz")]
    found = [(row["title"] if len(row["title"]) < 60 else "", row["text"]) for row in rows]
    random.Random(SEED).shuffle(found)
    return found


def _joined(tokens: str) -> str:
    """Text from space-separated tokens: punctuation closes up with the word before it."""
    text = re.sub(r"\s+([.,;:!?)'’%]|n't|'s)", r"\1", tokens.replace("``", '"').replace("''", '"'))
    return re.sub(r"([(])\s+", r"\1", text).strip()


def _window(text: str, answer: str, rng: random.Random) -> str:
    """The whole text or, mostly, a few sentences of it, those with the answer among them."""
    split = sentences(text) or [text]
    if rng.random() < 0.25 and len(text.split()) < 150:
        return text
    holding = [i for i, sentence in enumerate(split) if answer and answer in sentence]
    if answer and not holding:
        return " ".join(text.split()[:150]) if answer in " ".join(text.split()[:150]) else text
    first = max(0, (rng.choice(holding) if holding else rng.randrange(len(split))) - rng.choice((0, 1)))
    return " ".join(split[first : first + 3])


def _sentence_with(answer: str, text: str) -> str:
    found = [sentence for sentence in sentences(text) if answer in sentence]
    return found[0] if found else ""


def _among(gold: Shown, others: Sequence[Shown], rng: random.Random) -> list[Shown]:
    """The gold passage in a random place among none to two others."""
    shown = [gold, *rng.sample(list(others), min(len(others), rng.choice((0, 1, 1, 2))))]
    rng.shuffle(shown)
    return shown


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
