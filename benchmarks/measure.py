"""Arms in processes of their own: CPU seconds (user and system), wall seconds and peak memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def run(command: Sequence[str]) -> dict[str, Any]:
    """Run a command on one thread: its last line of output (JSON, where it is), and what it took.

    A small process starts it: Linux counts the memory of the starting process as the child's peak.
    """
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    starter = [sys.executable, __file__, *command]
    output = subprocess.run(starter, stdout=subprocess.PIPE, env=environment, text=True, check=True).stdout
    *told, took = [line for line in output.splitlines() if line]
    return {**json.loads(took), **(json.loads(told[-1]) if told and told[-1].startswith("{") else {})}


def start(command: Sequence[str]) -> None:
    """Run a command, then print what it took as JSON."""
    started = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    took = {
        "process_cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "process_wall_s": round(time.perf_counter() - started, 3),
        "peak_mb": usage.ru_maxrss // 1024,
    }
    print("\n" + json.dumps(took))


def rounds(commands: Mapping[str, Sequence[str]], count: int) -> dict[str, dict[str, float]]:
    """Run every arm `count` times, in alternation; the median of each number."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(count):
        for name, command in commands.items():
            taken[name].append(run(command))
            print(f"{name}: {taken[name][-1]}", file=sys.stderr, flush=True)
    return {
        name: {key: statistics.median(one[key] for one in every) for key in every[0]}
        for name, every in taken.items()
    }


def timed(work: Callable[[], object]) -> dict[str, float]:
    """CPU and wall seconds of one piece of work in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu_s": round(time.process_time() - cpu, 4), "wall_s": round(time.perf_counter() - wall, 4)}


def report(name: str, results: Mapping[str, Any], out: Path) -> None:
    """Print the results and write them, with the machine they were measured on."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in flags.splitlines() if "model name" in line), "")
    vector = [one for one in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if one in flags]
    machine = {"cpu": model or platform.machine(), "cores": os.cpu_count(), "has": vector}
    machine["load"] = round(os.getloadavg()[0], 1)
    text = json.dumps({"benchmark": name, "machine": machine, "results": results}, indent=2)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    start(sys.argv[1:])
