"""Training in processes of their own: killed and resumed, and shared by two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from training_process import train

SCRIPT = Path(__file__).with_name("training_process.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")


def run(*given: object) -> int:
    done = subprocess.run(
        [sys.executable, *map(str, given)], capture_output=True, text=True, timeout=1200, check=False
    )
    if done.returncode > 0:
        pytest.fail(done.stderr[-4000:])
    return done.returncode


def weights(folder: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())["report"]
    return found


def test_a_killed_run_that_is_resumed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Killed between two checkpoints and in the middle of an epoch, with dropout drawing numbers."""
    train(tmp_path / "whole", dropout=0.2)
    assert run(SCRIPT, tmp_path / "killed", "--dropout", 0.2, "--die-at", 11) == -9
    assert not (tmp_path / "killed").exists()
    assert run(SCRIPT, tmp_path / "killed", "--dropout", 0.2, "--resume") == 0
    assert report(tmp_path / "killed")["losses"] == report(tmp_path / "whole")["losses"]
    for name, wanted in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(weights(tmp_path / "killed")[name], wanted)


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    train(tmp_path / "one")
    train(tmp_path / "parts", accumulate=2)
    assert run(*TORCHRUN, 2, SCRIPT, tmp_path / "two") == 0
    one, two, parts = (report(tmp_path / name) for name in ("one", "two", "parts"))
    assert (one["processes"], two["processes"]) == (1, 2)
    for other in (two, parts):
        np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-4)
        np.testing.assert_allclose(other["dev_losses"], one["dev_losses"], rtol=1e-4)
        assert other["curve"] == one["curve"]
