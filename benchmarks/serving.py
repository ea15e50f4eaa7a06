"""Load on a server of this machine: does it hold, does batching pay, does it recover?

    python benchmarks/serving.py -i indexes/demo -o serving.json

Three parts, each against a server started for it, on 127.0.0.1 alone: `hold` (users for some seconds: errors,
answers that belong to another user), `batch` (the same users with --batch 16 and with --batch 1: answers a
second), `overload` (four times the places: only 200 and 429, memory, seconds until it answers as before).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

QUESTIONS = [
    "When is the northern lights season?",
    "How long do I boil an egg?",
    "Why does bread rise?",
    "What should I pack for a night train?",
    "How is offside decided?",
    "What helps against jet lag?",
    "Why do golf balls have dimples?",
    "How is green tea steeped?",
]
ROOT = Path(__file__).parent.parent
MEGABYTE = 1_000_000


@contextmanager
def serving(options: argparse.Namespace, *more: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server on a free port; yields its address and its process."""
    command = [sys.executable, "cli.py", "--offline", "serve", "-i", str(options.index), "-m", options.model]
    process = subprocess.Popen([*command, "--port", "0", *more], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.match(r"(http://\S+) serves", process.stderr.readline())
        assert found, process.stderr.read()
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def user(client: httpx.AsyncClient, name: int, until: float, seen: dict[str, Any]) -> None:
    """Ask one question after another in a conversation of one's own; a 429 waits as it is told."""
    headers = {"Cookie": f"rag_chat_owner={name:032x}"}
    session = (await client.post("/api/sessions", headers=headers)).json()["id"]
    asked = []
    while time.perf_counter() < until:
        question = f"{QUESTIONS[(name + len(asked)) % len(QUESTIONS)]}"
        body = {"question": question, "session": session}
        started = time.perf_counter()
        try:
            response = await client.post("/api/ask", json=body, headers=headers)
        except httpx.HTTPError as error:
            seen["statuses"][type(error).__name__] += 1
            continue
        seen["statuses"][response.status_code] += 1
        if response.status_code == 200:
            seen["seconds"].append(time.perf_counter() - started)
            asked.append(question)
            seen["crossed"] += response.json()["session"] != session
        elif response.status_code == 429:
            await asyncio.sleep(min(1.0, float(response.headers["retry-after"])))
    kept = (await client.get(f"/api/sessions/{session}?limit=1000", headers=headers)).json().get("turns", [])
    seen["crossed"] += [turn["question"] for turn in kept][: len(asked)] != asked


async def load(address: str, users: int, seconds: float) -> dict[str, Any]:
    """Let users ask for some seconds, and tell what they saw."""
    seen: dict[str, Any] = {"statuses": Counter(), "seconds": [], "crossed": 0}
    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        started = time.perf_counter()
        await asyncio.gather(*(user(client, n, started + seconds, seen) for n in range(users)))
        took = time.perf_counter() - started
    answered = sorted(seen["seconds"])
    return {
        "users": users,
        "seconds": round(took, 1),
        "statuses": {str(status): count for status, count in seen["statuses"].items()},
        "crossed": seen["crossed"],
        "answers_per_second": round(len(answered) / took, 2),
        "p50_s": round(statistics.median(answered), 2) if answered else None,
        "p95_s": round(answered[int(0.95 * (len(answered) - 1))], 2) if answered else None,
    }


def hold(options: argparse.Namespace) -> dict[str, Any]:
    """Users for some time."""
    with serving(options) as (address, _):
        return asyncio.run(load(address, options.users, options.seconds))


def batch(options: argparse.Namespace) -> dict[str, Any]:
    """The same users, answered together and one at a time, in alternating rounds."""
    rates: dict[str, list[float]] = {"16": [], "1": []}
    with serving(options) as (many, _), serving(options, "--batch", "1") as (single, _):
        for _ in range(options.rounds):
            for address, found in zip((many, single), rates.values(), strict=True):
                asyncio.run(load(address, 1, 1))  # warm
                found.append(asyncio.run(load(address, 16, options.batch_seconds))["answers_per_second"])
    together, alone = (statistics.median(found) for found in rates.values())
    return {"answers_per_second": rates, "ratio": round(together / alone, 2) if alone else None}


def overload(options: argparse.Namespace) -> dict[str, Any]:
    """Four times as many users as places, then one: memory, and how soon it answers as before."""
    places = 16
    with serving(options, "--waiting", str(places)) as (address, process):
        before = asyncio.run(load(address, 1, 5))
        quiet = process.memory_info().rss
        first = asyncio.run(load(address, 4 * places, options.overload_seconds))
        after_one = process.memory_info().rss
        second = asyncio.run(load(address, 4 * places, options.overload_seconds))
        after_two = process.memory_info().rss
        started = time.perf_counter()
        again = asyncio.run(load(address, 1, 0.1))
        recovered = time.perf_counter() - started
    return {
        "places": places,
        "before": before,
        "first": first,
        "second": second,
        "rss_mb": [round(rss / MEGABYTE) for rss in (quiet, after_one, after_two)],
        "recovered_s": round(recovered, 2),
        "after": again,
    }


PARTS = {"hold": hold, "batch": batch, "overload": overload}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-i", "--index", type=Path, required=True)
    parser.add_argument("-m", "--model", default="reader")
    parser.add_argument("-o", "--output", type=Path, default=Path("serving.json"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-seconds", type=float, default=30)
    parser.add_argument("--overload-seconds", type=float, default=30)
    options = parser.parse_args()
    os.environ.setdefault("RAG_CHAT_HOME", str(options.output.absolute().parent / "serving-home"))
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    report: dict[str, Any] = {"model": options.model, "machine": machine}
    for part in options.parts:
        report[part] = PARTS[part](options)
        print(part, json.dumps(report[part], indent=2))
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
