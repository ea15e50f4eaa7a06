"""An n-gram model that continues from a question to its answer, backing off to shorter contexts.

Brants et al. 2007 ("stupid back-off"): the next word is the one with the best relative frequency after the
last words, and each word that the context has to do without costs a factor. What the passages say is counted
beside what training said (a cache, Kuhn & De Mori 1990), the sentences nearest to the question most.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rag_chat.config import GenerationSettings
from rag_chat.errors import ModelError
from rag_chat.generation.checkpoint import read_card, save_folder
from rag_chat.generation.decoding import NO_REPEAT
from rag_chat.generation.prompt import pack
from rag_chat.generation.surface import Surface
from rag_chat.types import Generated, Prompt, Turn

COUNTS = "counts.json"
ORDER = 4  # words that are looked at together
BACK_OFF = 0.4  # Brants et al. 2007, section 4
NEAR = 8.0  # how much more a sentence counts that holds all words of the question
SAYS, END = "<says>", "<end>"
_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

Counts = dict[str, dict[str, float]]
"""After these words, joined by spaces: how often each word came next."""


class NgramGenerator:
    """Answers turns with counts alone; no weights, no tokenizer."""

    def __init__(self, folder: str | Path) -> None:
        self.name = str(folder)
        self.settings = read_card(Path(folder)) or GenerationSettings()
        try:
            self._learnt: Counts = json.loads((Path(folder) / COUNTS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} cannot be read: {error}", "Train it again: --arch ngram") from error

    def generate(self, turns: Sequence[Turn]) -> list[Generated]:
        """Answer each turn, in order."""
        return [Generated(self._answer(turn), prompt=self.prompt(turn)) for turn in turns]

    def stream(self, turn: Turn) -> Iterator[str]:
        """Yield the answer in one piece: it takes no time."""
        yield self._answer(turn)

    def prompt(self, turn: Turn) -> Prompt:
        """What is counted for this turn; the budget counts words."""
        return pack(turn, budget=self.settings.input_tokens, count_tokens=lambda text: len(words(text)))

    def _answer(self, turn: Turn) -> str:
        asked = words(turn.question)
        cache = _evidence(turn, set(asked))
        said = [*asked, SAYS]
        for _ in range(self.settings.answer_tokens):
            word = self._next(said, len(asked) + 1, cache)
            if word in (END, ""):
                break
            said.append(word)
        sources = [text for p in turn.passages for text in (p.text, p.context, p.title)]
        return Surface(sources).restore(" ".join(said[len(asked) + 1 :]))

    def _next(self, said: Sequence[str], start: int, cache: Counts) -> str:
        """The word with the best score; a run of words that was said is not said again."""
        scores: dict[str, float] = {}
        for rank, context in enumerate(contexts(said)):
            counted = Counter(self._learnt.get(context, {})) + Counter(cache.get(context, {}))
            total = sum(counted.values())
            for word, count in counted.items():
                scores.setdefault(word, BACK_OFF**rank * count / total)
        runs = {tuple(said[i : i + NO_REPEAT]) for i in range(start, len(said) - NO_REPEAT + 1)}
        allowed = {w: s for w, s in scores.items() if (*said[len(said) - NO_REPEAT + 1 :], w) not in runs}
        return max(allowed, key=lambda word: (allowed[word], word), default="")


def fit(pairs: Iterable[tuple[str, str]]) -> Counts:
    """Count what follows what in (question, reply) pairs; long contexts seen but once are left out."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question, reply in pairs:
        _count(counts, [*words(question), SAYS], words(reply), 1.0)
    return {c: dict(n) for c, n in counts.items() if n.total() > 1 or c.count(" ") < 1}


def save(counts: Counts, folder: Path, generation: GenerationSettings) -> None:
    """Write a model that NgramGenerator loads."""

    def write(fresh: Path) -> None:
        fresh.mkdir(parents=True)
        config = {"model_type": "rag_chat_ngram", "architectures": ["NgramGenerator"], "order": ORDER}
        (fresh / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
        (fresh / COUNTS).write_text(json.dumps(counts, ensure_ascii=False), encoding="utf-8")

    save_folder(folder, generation, write)


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def contexts(said: Sequence[str]) -> Iterator[str]:
    """The last words, one fewer each time, down to none."""
    for length in range(min(ORDER - 1, len(said)), -1, -1):
        yield " ".join(said[len(said) - length :])


def _evidence(turn: Turn, asked: set[str]) -> Counts:
    """What the passages say, sentence by sentence, as replies would say it."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for passage in turn.passages:
        for sentence in _SENTENCE.split(passage.text):
            said = words(sentence)
            near = len(asked & set(said)) / max(1, len(asked))
            _count(counts, [SAYS], said, 1.0 + NEAR * near)
    return {context: dict(counted) for context, counted in counts.items()}


def _count(
    counts: Mapping[str, Counter[str]], before: Sequence[str], said: Sequence[str], weight: float
) -> None:
    text = [*before, *said, END]
    for place in range(len(before), len(text)):
        for context in contexts(text[max(0, place - ORDER + 1) : place]):
            counts[context][text[place]] += weight  # type: ignore[assignment]  # typeshed has whole counts
