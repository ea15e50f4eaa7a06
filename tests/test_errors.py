"""Every error says what happened and what to do."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest

from rag_chat import errors
from rag_chat.errors import MissingExtra, RagChatError, UsageError, require

TREE = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", TREE)
def test_errors_carry_problem_and_fix(kind: type[RagChatError]) -> None:
    error = kind("The file is gone.", "Bring it back.")
    assert isinstance(error, RagChatError)
    assert (error.problem, error.fix) == ("The file is gone.", "Bring it back.")
    assert str(error) == "The file is gone.\n  Bring it back."


@pytest.mark.parametrize("kind", TREE)
def test_errors_cross_process_boundaries(kind: type[RagChatError]) -> None:
    error = pickle.loads(pickle.dumps(kind("problem", "fix")))
    assert (type(error), error.problem, error.fix) == (kind, "problem", "fix")


def test_errors_are_also_what_python_code_expects() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(MissingExtra, ImportError)


def test_require_imports_or_names_the_extra() -> None:
    assert require("json", "files") is json
    with pytest.raises(MissingExtra, match=r"pip install 'rag-chat\[pdf\]'") as caught:
        require("no_such_package", "pdf")
    assert "'no_such_package'" in caught.value.problem
