"""What to conclude from a comparison, in one sentence that claims no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping

from rag_chat.evaluation.intervals import Interval


def verdict(main: str, differences: Mapping[str, Interval], retrieval: Mapping[str, Interval], k: int) -> str:
    """Say whether the main arm is better, and what limits it now.

    differences: F1 of the main arm minus that of each other one. An interval that holds 0 is called no
    measurable difference.
    """
    parts = []
    if "base" in differences:
        parts.append(_compared("tuning", "did not help measurably", differences["base"]))
    if "extractive" in differences and "base" not in differences:
        no_better = "is not measurably better than the extractive one"
        parts.append(_against(main, no_better, differences["extractive"]))
    if "no-retrieval" in differences:
        parts.append(_compared("retrieval", "made no measurable difference", differences["no-retrieval"]))
    parts.append(_limit(differences.get("gold"), retrieval.get(f"recall@{k}"), k))
    sentence = "; ".join(filter(None, parts)) or f"{main} stands alone: there is nothing to compare it with"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _compared(what: str, nothing: str, gain: Interval) -> str:
    return _told(what, gain, "raised F1 by {}", "lowered F1 by {}", nothing)


def _against(main: str, nothing: str, gain: Interval) -> str:
    above, below = (f"is {{}} points of F1 {side} the extractive reader" for side in ("above", "below"))
    return _told(main, gain, above, below, nothing)


def _told(what: str, gain: Interval, above: str, below: str, nothing: str) -> str:
    """Which of three things a difference says; its points go where the braces are."""
    if gain[1] > 0:
        return f"{what} {above.format(points(gain))}"
    if gain[2] < 0:
        return f"{what} {below.format(points(_negated(gain)))}"
    return f"{what} {nothing} (F1 {signed(gain)})"


def _limit(gold: Interval | None, recall: Interval | None, k: int) -> str:
    """Gold passages in place of those found say what retrieval costs, and so which part to work on."""
    if recall is None:
        return ""
    finds = f"retrieval finds the evidence among {k} passages in {recall[0]:.0%} of grounded turns"
    if gold is None:
        return finds
    gain = _negated(gold)
    if gain[1] > 0:
        return f"{finds}: that is the limit now, for the right passages would raise F1 by {points(gain)}"
    return f"{finds}, and the right ones do not raise F1 ({signed(gain)}): the reader is the limit now"


def points(interval: Interval) -> str:
    """A share as points with its interval: 6.1 [4.0, 8.3]."""
    mean, low, high = (100 * value for value in interval)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def signed(interval: Interval) -> str:
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _negated(interval: Interval) -> Interval:
    mean, low, high = interval
    return -mean, -high, -low
