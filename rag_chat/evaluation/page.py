"""A report as one HTML page that needs nothing else: no script, no font, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rag_chat.evaluation.plots import bar_plot, line_plot
from rag_chat.evaluation.style import STYLE
from rag_chat.evaluation.verdict import points

Json = Mapping[str, Any]

COLUMNS = {
    "f1": "token F1",
    "f1_grounded": "F1, grounded",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "support": "supported",
    "abstention_precision": "abstains: precision",
    "abstention_recall": "recall",
    "abstained_wrongly": "without need",
    "distinct_2": "distinct 2-grams",
    "repetition": "repeats",
}


def page(report: Json) -> str:
    """The page for what `report_json` gives."""
    parts = [
        _header(report),
        _arms_table(report),
        _figures(report),
        _topics(report),
        _worst(report),
        _notes(),
    ]
    body = "\n".join(filter(None, parts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>rag_chat evaluation</title><style>{STYLE}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )


def _header(report: Json) -> str:
    facts = {
        "conversations": report["conversations"],
        "turns": len(report["turns"]),
        "grounded turns": report["grounded"],
        "passages a turn": report["k"],
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    verdict = escape(report["verdict"])
    return f'<header><h1>Evaluation</h1><p class="verdict">{verdict}</p><dl>{shown}</dl></header>'


def _arms_table(report: Json) -> str:
    if not report["arms"]:
        return ""
    rows = []
    for number, (name, arm) in enumerate(report["arms"].items()):
        against = report["differences"].get(name)
        gap = points(against) if against else "–"
        named = f"{escape(name)} <small>{escape(arm['model'])}</small>"
        head = f'<th scope="row"><i class="key s{number}"></i>{named}</th>'
        rows.append([head, f"<td>{_split(gap)}</td>", *(_cell(arm[column]) for column in COLUMNS)])
    labels = ["arm", f"F1 of {report['main']} minus its", *COLUMNS.values()]
    return _section("Arms", _table(labels, rows), "In percent, with 95% intervals over conversations.")


def _cell(value: Any) -> str:
    if value is None:
        return "<td>–</td>"
    return f"<td>{100 * value:.1f}</td>" if isinstance(value, float) else f"<td>{_split(points(value))}</td>"


def _split(shown: str) -> str:
    """The interval on a line of its own."""
    mean, _, ends = shown.partition(" ")
    return f"<b>{mean}</b><small>{ends}</small>"


def _figures(report: Json) -> str:
    arms = report["arms"]
    figures = [_retrieval_figure(report)]
    if arms:
        figures += [_f1_figure(arms), _depth_figure(arms), _risk_figure(arms), _latency_figure(arms)]
    return f'<section class="figures">{"".join(figures)}</section>'


def _retrieval_figure(report: Json) -> str:
    recall = {
        int(name.partition("@")[2]): value for name, value in report["retrieval"].items() if name[:2] == "re"
    }
    if not recall:
        return ""
    line = [(k, *(100 * one for one in recall[k])) for k in sorted(recall)]
    plot = line_plot(
        "Recall by number of passages",
        {"retrieval": line},
        x_ticks={k: str(k) for k in sorted(recall)},
        x_label="passages found",
        y_label="recall, %",
        log_x=True,
    )
    others = ", ".join(
        f"{n} {points(v)}" for n, v in report["retrieval"].items() if not n.startswith("recall")
    )
    return _figure(
        "Retrieval", plot, (), f"Does the search find the documents that the reply names? {others}"
    )


def _f1_figure(arms: Json) -> str:
    groups = {"f1": "all turns", "f1_grounded": "grounded turns"}
    bars = {
        name: {label: _percent(arm[key]) for key, label in groups.items() if arm[key]}
        for name, arm in arms.items()
    }
    plot = bar_plot("F1 by arm", list(groups.values()), bars, y_label="token F1, %")
    return _figure("F1 by arm", plot, arms, "An abstention scores 1 where the reply abstains, else 0.")


def _depth_figure(arms: Json) -> str:
    depths = sorted({depth for arm in arms.values() for depth in arm["by_depth"]})
    place = {depth: float(n) for n, depth in enumerate(depths)}
    lines = {
        name: [(place[depth], *_percent(value)) for depth, value in arm["by_depth"].items()]
        for name, arm in arms.items()
    }
    plot = line_plot(
        "F1 by depth",
        lines,
        x_ticks={n: depth for depth, n in place.items()},
        x_label="the user's turn in the conversation",
        y_label="token F1, %",
    )
    return _figure("F1 by depth", plot, arms, "Later turns lean on what was said before.")


def _risk_figure(arms: Json) -> str:
    lines = {
        name: [(coverage, 100 * risk, 100 * risk, 100 * risk) for coverage, risk in arm["risk_coverage"]]
        for name, arm in arms.items()
    }
    plot = line_plot(
        "Risk by coverage",
        lines,
        x_ticks={share / 4: f"{25 * share}%" for share in range(5)},
        x_label="turns answered, the surest first",
        y_label="risk: 100 minus F1, %",
    )
    return _figure(
        "Risk and coverage", plot, arms, "A line that rises to the right: confidence tells good from bad."
    )


def _latency_figure(arms: Json) -> str:
    groups = {"p50": "median", "p95": "95th percentile"}
    bars = {
        name: {label: [arm["latency_ms"][key]] * 3 for key, label in groups.items() if arm["latency_ms"]}
        for name, arm in arms.items()
    }
    counted = max((arm["latency_ms"]["turns"] for arm in arms.values() if arm["latency_ms"]), default=0)
    if not counted:
        return ""
    plot = bar_plot("Latency", list(groups.values()), bars, y_label="milliseconds a turn")
    return _figure(
        "Latency", plot, bars, f"{counted} turns, each answered alone, on the machine that made this."
    )


def _topics(report: Json) -> str:
    arms = report["arms"]
    topics = sorted({topic for arm in arms.values() for topic in arm["by_topic"]})
    if len(topics) < 2:
        return ""
    rows = [
        [
            f'<th scope="row">{escape(topic or "none")}</th>',
            *(_cell(arm["by_topic"][topic]) for arm in arms.values()),
        ]
        for topic in topics
    ]
    return _section("F1 by topic", _table(["topic", *map(escape, arms)], rows))


def _worst(report: Json) -> str:
    cases = "".join(_case(case, report["main"]) for case in report["worst"])
    note = f"The turns that {escape(report['main'])} did worst on, with how they were answered."
    return _section(f"The worst {len(report['worst'])}", cases, note) if cases else ""


def _case(case: Json, main: str) -> str:
    said = case["answers"][main]
    label = escape(f"{case['dialogue']}, turn {case['depth']}")
    asked = f"<span>{escape(case['question'])}</span><small>{label}</small>"
    head = f"<summary><b>{100 * said['f1']:.0f}</b>{asked}</summary>"
    others = {f"{name} said": answer["text"] for name, answer in case["answers"].items() if name != main}
    facts = {
        "before": " / ".join(f"{turn['role']}: {turn['content']}" for turn in case["history"][-4:]),
        "reply wanted": case["reply"],
        f"{main} said": said["text"],
        **others,
        "searched for": case["query"],
        "documents named": ", ".join(case["sources"]),
        "note": case["reason"],
        "left out": "; ".join(case["dropped"]),
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    passages = "".join(_passage(passage, case["sources"]) for passage in case["passages"])
    return f"<details>{head}<dl>{rows}</dl><ol>{passages}</ol></details>"


def _passage(passage: Json, sources: Sequence[str]) -> str:
    right = any(f"/{passage['source']}".endswith(f"/{source}") for source in sources)
    mark = ' class="right"' if right else ""
    place = f"<b>{escape(passage['source'])}</b> {passage['score']:.3f}"
    return f"<li{mark}>{place}<p>{escape(passage['text'])}</p></li>"


def _notes() -> str:
    return (
        "<footer><p>Intervals are 95% bootstrap intervals: whole conversations are drawn, since the turns of "
        "one are not independent. Differences are paired by turn. The history of each turn is as it was "
        "written, not as the model would have had it. <i>gold</i> is given the passages of the documents "
        "that the reply names; <i>no-retrieval</i> is the model alone; <i>extractive</i> quotes the best "
        "sentence. <i>supported</i> is the share of an answer's sentences that a passage before the model "
        "supports. The numbers of every turn are in report.json and turns.csv.</p></footer>"
    )


def _section(title: str, body: str, note: str = "") -> str:
    return f"<section><h2>{escape(title)}</h2>{f'<p>{note}</p>' if note else ''}{body}</section>"


def _figure(title: str, plot: str, names: Iterable[str], note: str) -> str:
    keys = "".join(f'<li><i class="key s{n}"></i>{escape(name)}</li>' for n, name in enumerate(names))
    legend = f"<ul>{keys}</ul>" if keys else ""
    return f"<figure><h2>{escape(title)}</h2>{plot}{legend}<figcaption>{escape(note)}</figcaption></figure>"


def _table(labels: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{label}</th>' for label in labels)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _percent(interval: Sequence[float]) -> tuple[float, float, float]:
    mean, low, high = interval
    return 100 * mean, 100 * low, 100 * high
