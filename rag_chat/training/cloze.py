"""Reading exercises made from plain prose: the answer always stands in one of the passages.

Two kinds, after Lewis et al. 2019 (unsupervised question answering by cloze translation): *span*, a
sentence with a few words taken out, asked in a wh-word's disguise; and *sentence*, a few key words that
ask for the sentence they come from. Both train the decoder's cross-attention to find and copy, which is
most of what a grounded answer is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence

from rag_chat.types import Dialogue, Message, Passage

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_WORD = re.compile(r"\w[\w'’-]*")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b(?:(?:{_MONTHS}) )?(?:\d{{1,2}}, )?(?:1[0-9]|20)\d\d\b")
_NUMBER = re.compile(r"\b\d[\d,.]*\d\b(?: (?:percent|per cent|million|billion|years|days|miles|km))?")
_NAME = re.compile(r"\b[A-Z]\w+(?: (?:of |the |and )?[A-Z]\w+)*")
_STOP = frozenset(
    "a an the and or but of in on at to for with by from as is are was were be been being it its this "
    "that these those he she they we you i his her their our your not no so than then there which who "
    "whom what when where how why can could will would may might must do does did has have had if".split()
)
_OPENERS = ("tell me about", "what do you know about", "what about", "explain", "describe", "")


def sentences(text: str) -> list[str]:
    """Split prose into sentences of 6 to 40 words."""
    found = (piece.strip() for piece in _SENTENCE.split(" ".join(text.split())))
    return [piece for piece in found if 6 <= len(piece.split()) <= 40]


def cloze_dialogues(
    paragraphs: Iterable[tuple[str, str]], *, seed: int, most_words: int = 64
) -> Iterator[Dialogue]:
    """Yield one exercise a paragraph, each a dialogue of one exchange that carries its passages.

    paragraphs: (title, text) pairs. A passage is one to three sentences; up to two passages from other
    paragraphs stand beside the one that holds the answer, `most_words` in all.
    """
    rng = random.Random(seed)
    recent: list[tuple[str, str]] = []
    for number, (title, text) in enumerate(paragraphs):
        split = sentences(text)
        if not split:
            continue
        first = rng.randrange(len(split))
        passage = _window(split, first, rng.choice((1, 2, 3)), most_words)
        made = _exercise(split[first], rng)
        distractors = rng.sample(recent, min(len(recent), rng.choice((0, 1, 2))))
        recent = [*recent[-15:], (title, passage)]
        if made:
            shown = _shuffled((title, passage), distractors, most_words, rng)
            yield _dialogue(f"cloze-{number}", *made, shown)


def _window(split: Sequence[str], first: int, size: int, most_words: int) -> str:
    chosen = [split[first]]
    for sentence in split[first + 1 : first + size]:
        if sum(len(s.split()) for s in chosen) + len(sentence.split()) <= most_words:
            chosen.append(sentence)
    return " ".join(chosen)


def _shuffled(
    gold: tuple[str, str], others: list[tuple[str, str]], most_words: int, rng: random.Random
) -> list[tuple[str, str]]:
    shown, words = [gold], len(gold[1].split())
    for other in others:
        words += len(other[1].split())
        if words <= most_words:
            shown.append(other)
    rng.shuffle(shown)
    return shown


def _exercise(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    """Return (question, answer), or None where the sentence offers nothing to ask for."""
    if rng.random() < 0.4:
        return _sentence_exercise(sentence, rng)
    return _span_exercise(sentence, rng) or _sentence_exercise(sentence, rng)


def _sentence_exercise(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    words = [w for w in _WORD.findall(sentence) if w.lower() not in _STOP]
    if len(words) < 3:
        return None
    keep = sorted(rng.sample(range(len(words)), rng.randint(2, min(4, len(words)))))
    asked = " ".join(words[i] for i in keep)
    return f"{rng.choice(_OPENERS)} {asked}".strip(), sentence


def _span_exercise(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    found = _spans(sentence)
    if not found:
        return None
    start, end, asks = rng.choice(found)
    before, after = sentence[:start].split(), sentence[end:].split()
    if rng.random() < 0.5:  # a plain gap; otherwise a rough question with words left out
        gap = rng.choice(("_", asks))
        return " ".join([*before, gap, *after]), sentence[start:end]
    kept = [w for w in (*after, *before) if w.lower() not in _STOP or rng.random() < 0.4]
    kept = [w for w in kept if rng.random() < 0.8]
    return f"{asks} {' '.join(kept).rstrip('.')}?", sentence[start:end]


def _spans(sentence: str) -> list[tuple[int, int, str]]:
    """Spans worth asking for, with the word that asks: (start, end, wh-word)."""
    found = [(*m.span(), "when") for m in _DATE.finditer(sentence)]
    found += [(*m.span(), "how many") for m in _NUMBER.finditer(sentence)]
    found += [(*m.span(), "who or what") for m in _NAME.finditer(sentence) if m.start() > 0]
    found += [(*m, "what") for m in _content_runs(sentence)]
    return [span for span in found if 0 < span[1] - span[0] <= 60]


def _content_runs(sentence: str) -> list[tuple[int, int]]:
    """Runs of one to three neighbouring words that are no stop words."""
    runs: list[list[re.Match[str]]] = [[]]
    for word in _WORD.finditer(sentence):
        touching = runs[-1] and sentence[runs[-1][-1].end() : word.start()] == " "
        if word.group().lower() in _STOP:
            runs.append([])
        elif touching and len(runs[-1]) < 3:
            runs[-1].append(word)
        else:
            runs.append([word])
    return [(run[0].start(), run[-1].end()) for run in runs if run]


def _dialogue(name: str, question: str, answer: str, shown: Sequence[tuple[str, str]]) -> Dialogue:
    passages = tuple(
        Passage(f"given#{i}", f"given#{i}", title, text, 0, len(text), context=title)
        for i, (title, text) in enumerate(shown)
    )
    reply = Message("assistant", answer, passages=passages)
    return Dialogue(name, (Message("user", question), reply))
