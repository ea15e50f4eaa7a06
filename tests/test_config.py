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


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'") as caught:
        from_mapping(TrainingSettings, {"learning_rat": 1e-4})
    assert caught.value.problem == "Unknown setting 'learning_rat'."
    with pytest.raises(UsageError, match="Known settings: input_tokens, answer_tokens, beams"):
        from_mapping(GenerationSettings, {"zzz": 1})
