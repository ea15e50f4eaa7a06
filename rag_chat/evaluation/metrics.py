"""Scores for answers, as pure functions of text. All lie in [0, 1]; higher is better but for `repetition`."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from rag_chat.corpus.packing import sentences
from rag_chat.errors import require
from rag_chat.generation.citations import cite
from rag_chat.types import Passage

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "’‘“”–—")


def normalise(text: str) -> str:
    """Lower-case, without punctuation, articles and extra spaces (the SQuAD normalisation)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    """1.0 when both texts are the same after normalisation."""
    return float(normalise(answer) == normalise(gold))


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of token precision and recall (Rajpurkar et al. 2016)."""
    said, wanted = normalise(answer).split(), normalise(gold).split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def rouge_l(answer: str, gold: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004), by rouge-score, unstemmed.

    Needs the extra `eval`. Only letters a-z and digits count, as in the published figures.
    """
    return float(_rouge().score(gold, answer)["rougeL"].fmeasure)


@cache
def _rouge() -> Any:
    require("rouge_score", "eval")
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


def bleu(answers: Sequence[str], golds: Sequence[str]) -> float:
    """BLEU of a whole set of answers (Papineni et al. 2002), by sacreBLEU with its defaults.

    Needs the extra `eval`. Published figures are this times 100.
    """
    found = require("sacrebleu", "eval").corpus_bleu(list(answers), [list(golds)])
    return min(1.0, max(0.0, float(found.score) / 100))


def support(answer: str, passages: Sequence[Passage], question: str) -> float:
    """Share of the answer's sentences that a passage supports, as citations judge it; 0.0 for no sentence."""
    said = [answer[start:end] for start, end in sentences(answer, 0, len(answer))]
    cited = [bool(cite(sentence, passages, question=question)) for sentence in said if sentence.strip()]
    return sum(cited) / len(cited) if cited else 0.0


def abstention(said: Sequence[bool], wanted: Sequence[bool]) -> tuple[float | None, float | None]:
    """Precision and recall of abstaining; None where nothing was said, or wanted, to be abstained from."""
    rightly = sum(a and b for a, b in zip(said, wanted, strict=True))
    return (rightly / sum(said) if any(said) else None, rightly / sum(wanted) if any(wanted) else None)


def distinct(answers: Sequence[str], n: int) -> float:
    """Different n-grams per n-gram over all answers (Li et al. 2016); 0.0 where there are none."""
    grams = [gram for answer in answers for gram in _grams(answer, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(answer: str, n: int = 3) -> float:
    """Share of an answer's n-grams that it has said before; lower is better."""
    grams = _grams(answer, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return list(zip(*(words[i:] for i in range(n)), strict=False))
