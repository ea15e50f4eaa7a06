"""Settings: frozen, checked, and no unknown name gets in."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.config import GenerationSettings, IndexSettings, TrainingSettings, from_mapping
from rag_chat.errors import UsageError


@pytest.mark.parametrize("kind", [IndexSettings, GenerationSettings, TrainingSettings])
def test_defaults_are_valid_and_frozen(
    kind: type[IndexSettings] | type[GenerationSettings] | type[TrainingSettings],
) -> None:
    settings = kind()
    name = dataclasses.fields(settings)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, name, getattr(settings, name))


@given(chunk_tokens=st.integers(8, 10_000), data=st.data())
def test_a_mapping_of_settings_gives_them_back(chunk_tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, chunk_tokens // 2))
    settings = IndexSettings(chunk_tokens=chunk_tokens, overlap=overlap)
    assert from_mapping(IndexSettings, dataclasses.asdict(settings)) == settings


@given(chunk_tokens=st.integers(-10, 300), overlap=st.integers(-10, 300))
def test_chunks_that_cannot_be_cut_are_refused(chunk_tokens: int, overlap: int) -> None:
    if chunk_tokens >= 8 and 0 <= overlap <= chunk_tokens // 2:
        IndexSettings(chunk_tokens=chunk_tokens, overlap=overlap)
        return
    with pytest.raises(UsageError, match="Try "):
        IndexSettings(chunk_tokens=chunk_tokens, overlap=overlap)


@pytest.mark.parametrize("name", ["index_type", "embed_precision"])
def test_a_choice_that_is_none_is_refused_before_an_index_is_made_with_it(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot be 'tree'") as caught:
        IndexSettings(**{name: "tree"})  # type: ignore[arg-type]
    assert caught.value.fix.startswith("Give one of: ")


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'") as caught:
        from_mapping(TrainingSettings, {"learning_rat": 1e-4})
    assert caught.value.problem == "Unknown setting 'learning_rat'."
    with pytest.raises(UsageError, match="Known settings: input_tokens, answer_tokens, beams"):
        from_mapping(GenerationSettings, {"zzz": 1})


@pytest.mark.parametrize(
    ("kind", "name", "value", "problem", "fix"),
    [
        (TrainingSettings, "learning_rate", "abc", "cannot be", "Give a number."),
        (TrainingSettings, "batch_size", "1.5", "cannot be", "Give a whole number."),
        (TrainingSettings, "batch_size", "true", "cannot be", "Give a whole number."),
        (TrainingSettings, "half", "1", "cannot be", "Give true or false."),
        (TrainingSettings, "cross_learning_rate", "high", "cannot be", "Give a number."),
        (IndexSettings, "index_type", "tree", "cannot be", "Give one of: auto, flat, hnsw, ivf, ivfpq."),
        (IndexSettings, "embedder", 3, "cannot be", "Give text."),
        (
            GenerationSettings,
            "skills",
            "answer",
            "cannot be",
            "Give a list, of one of: answer, rewrite, unanswerable.",
        ),
        (TrainingSettings, "accumulate", "0", "must be at least", "Try 1."),
        (TrainingSettings, "passages", "0", "must be at least", "Try 5."),
        (TrainingSettings, "epochs", "-1", "must be at least", "Try 3.0."),
        (TrainingSettings, "epochs", "Infinity", "must be at least", "Try 3.0."),
        (TrainingSettings, "batch_size", "0", "must be at least", "Try 32."),
        (TrainingSettings, "learning_rate", "-1e-4", "must be at least", "Try 0.00015."),
        (TrainingSettings, "learning_rate", "NaN", "must be at least", "Try 0.00015."),
        (TrainingSettings, "cross_learning_rate", "-1", "must be at least", "Leave it out."),
        (TrainingSettings, "dropout", "1", "must be at least", "Try 0.1."),
        (TrainingSettings, "gold_dropout", "-0.1", "must be at least", "Try 0.1."),
        (TrainingSettings, "seed", "-1", "must be at least", "Try 13."),
        (GenerationSettings, "beams", "0", "must be at least", "Try 1."),
        (GenerationSettings, "input_tokens", "1", "must be at least", "Try 384."),
        (GenerationSettings, "answer_tokens", "0", "must be at least", "Try 64."),
    ],
)
def test_values_of_another_type_or_out_of_range_are_refused(
    kind: type[IndexSettings] | type[GenerationSettings] | type[TrainingSettings],
    name: str,
    value: object,
    problem: str,
    fix: str,
) -> None:
    with pytest.raises(UsageError, match=f"^{name} {problem} ") as caught:
        from_mapping(kind, {name: value})
    assert caught.value.fix == fix


def test_text_is_read_as_what_it_stands_for() -> None:
    given = {"learning_rate": "1", "cross_learning_rate": "null", "half": "true", "seed": "7"}
    settings = TrainingSettings(learning_rate=1, cross_learning_rate=None, half=True, seed=7)
    assert from_mapping(TrainingSettings, given) == settings
