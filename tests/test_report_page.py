"""The report page: whole, safe, and needing nothing else; plots true to their numbers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.evaluation.page import page
from rag_chat.evaluation.plots import bar_plot, line_plot

EVIL = '<script>alert("x")</script>&'
VOID = {"meta"}


def report(**changes: Any) -> dict[str, Any]:
    arm = {
        "model": EVIL,
        "latency_ms": {"p50": 12.5, "p95": 40.0, "turns": 3},
        "by_topic": {EVIL: [0.5, 0.4, 0.6], "food": [0.5, 0.4, 0.6]},
        "by_depth": {"1": [0.5, 0.4, 0.6], "2": [0.3, 0.2, 0.4]},
        "risk_coverage": [[0.5, 0.2], [1.0, 0.5]],
        "f1_grounded": None,
        "support": None,
        **{key: [0.5, 0.4, 0.6] for key in ("f1", "exact_match", "rouge_l")},
        **dict.fromkeys(("bleu", "abstained_wrongly", "distinct_2", "repetition"), 0.25),
        **dict.fromkeys(("abstention_precision", "abstention_recall")),
    }
    said = {"text": EVIL, "abstained": False, "f1": 0.0}
    case = {
        "dialogue": EVIL,
        "depth": 1,
        "question": EVIL,
        "reply": EVIL,
        "sources": [EVIL],
        "answers": {"base": said, "gold": said},
        "history": [{"role": "user", "content": EVIL}],
        "query": EVIL,
        "reason": EVIL,
        "passages": [{"rank": 1, "source": EVIL, "title": EVIL, "score": 0.5, "text": EVIL}],
        "dropped": [EVIL],
    }
    return {
        "verdict": EVIL,
        "conversations": 1,
        "grounded": 1,
        "k": 5,
        "main": "base",
        "retrieval": {"recall@1": [0.5, 0.4, 0.6], "recall@5": [0.8, 0.7, 0.9], "ndcg@10": [0.6, 0.5, 0.7]},
        "arms": {"base": arm, "gold": {**arm, "latency_ms": None}},
        "differences": {"gold": [0.0, -0.1, 0.1]},
        "turns": [{}],
        "worst": [case],
        **changes,
    }


class Reader(HTMLParser):
    """Collects tags and what they refer to, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "given",
    [report(), report(arms={}, differences={}, worst=[]), report(retrieval={})],
    ids=["all", "search", "chat"],
)
def test_the_page_is_whole_and_needs_nothing_else(given: dict[str, Any]) -> None:
    text = page(given)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.references == []
    assert "script" not in reader.seen
    assert not re.search(r"url\(|@import|https?:", text)


def test_what_was_said_is_shown_as_text() -> None:
    text = page(report())
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;") >= 10


def test_each_figure_is_there_when_there_is_something_to_show() -> None:
    titles = re.findall(r"<figure><h2>(.*?)</h2>", page(report()))
    assert titles == ["Retrieval", "F1 by arm", "F1 by depth", "Risk and coverage", "Latency"]
    assert re.findall(r"<figure><h2>(.*?)</h2>", page(report(arms={}, worst=[]))) == ["Retrieval"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_bars_are_as_high_as_their_values(values: list[float]) -> None:
    groups = [str(place) for place in range(len(values))]
    bars = {"one": {group: (value, value, value) for group, value in zip(groups, values, strict=True)}}
    drawn = ElementTree.fromstring(bar_plot("what", groups, bars, y_label="y"))
    heights = [float(bar.attrib["height"]) for bar in drawn.iter("rect")]
    assert len(heights) == len(values)
    most = max(values)
    for height, value in zip(heights, values, strict=True):
        assert 0 <= height <= 206.05
        if most > 1e-6:
            assert height == pytest.approx(max(heights) * value / most, abs=0.2)


def test_lines_rise_with_their_values() -> None:
    points = [(1.0, 10.0, 8.0, 12.0), (5.0, 30.0, 30.0, 30.0)]
    plot = line_plot("what", {"a": points}, x_ticks={1: "1", 5: "5"}, x_label="x", y_label="y", log_x=True)
    drawn = ElementTree.fromstring(plot)
    (line,) = drawn.iter("polyline")
    (x1, y1), (x2, y2) = [map(float, spot.split(",")) for spot in line.attrib["points"].split()]
    assert x1 < x2
    assert y1 > y2  # down is more in SVG
    assert len(list(drawn.iter("circle"))) == 1  # one point has an interval
