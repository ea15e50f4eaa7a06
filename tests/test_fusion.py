"""Passages are read each on its own and answered from together, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag_chat.config import GenerationSettings, Skill, from_mapping
from rag_chat.errors import UsageError
from rag_chat.generation.checkpoint import read_card, save_checkpoint
from rag_chat.generation.decoding import Decoded
from rag_chat.generation.fusion import as_one, fuse, passage_shares, readings, stack
from rag_chat.generation.prompt import pack
from rag_chat.generation.seq2seq import Seq2SeqGenerator
from rag_chat.types import Message, Passage, Prompt, Turn

FUSED = replace(models.SHORT, fuse="decoder")
THIRD = Passage("n#p0", "n.md", "North", "North of the city it is said: boil a 6.", 0, 39, context="North")
SAID = (Message("user", "An egg?"), Message("assistant", "Boil it."))
ONE = Turn("How long?", SAID, (models.EGGS,))
TWO = Turn("Where is Tromsø?", (), (models.PLACE, models.EGGS))
THREE = Turn("What is said?", SAID, (models.EGGS, THIRD, models.PLACE))
NONE = Turn("What?")


@pytest.fixture(scope="module", params=["bart", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(request.param) / "model"
    if request.param == "t5":
        return models.t5(place)
    tokenizer = models.wordpiece(uncased=False)
    save_checkpoint(models.bart(tokenizer, seed=4), tokenizer, place, FUSED)
    return place


@pytest.fixture(scope="module")
def fused(folder: Path) -> Seq2SeqGenerator:
    return Seq2SeqGenerator(folder, device="cpu", settings=FUSED, fast=False)


@pytest.fixture(scope="module")
def concat(folder: Path) -> Seq2SeqGenerator:
    return Seq2SeqGenerator(folder, device="cpu", settings=models.SHORT, fast=False)


# --- What the model reads ---------------------------------------------------------------------------


@given(st.integers(0, 4), st.integers(8, 60))
def test_every_passage_has_the_question_and_a_budget_of_its_own(passages: int, budget: int) -> None:
    shown = tuple(replace(THIRD, id=f"p{n}", text=f"number {n} {THIRD.text}") for n in range(passages))

    def count(text: str) -> int:
        return len(text.split()) + 2

    turn = Turn("What is said?", SAID, shown)
    prompts = readings(turn, fuse="decoder", budget=budget, count_tokens=count)
    assert len(prompts) == max(1, passages)
    for n, prompt in enumerate(prompts):
        alone = replace(turn, passages=shown[n : n + 1])
        assert prompt == pack(alone, budget=budget, count_tokens=count)
        assert prompt.text.startswith("question: What is said?")
        assert count(prompt.text) <= budget
    assert readings(turn, fuse="concat", budget=budget, count_tokens=count) == (
        pack(turn, budget=budget, count_tokens=count),
    )


def test_what_was_dropped_is_told_once() -> None:
    prompts = [Prompt("a", ("history: its oldest 2 messages",)), Prompt("b", ("passage: p", "history: x"))]
    prompts.append(prompts[0])
    shown = as_one(prompts)
    assert shown.text == "a\n\nb\n\na"
    assert shown.dropped == ("history: its oldest 2 messages", "passage: p", "history: x")


# --- What the decoder attends over ------------------------------------------------------------------


def test_states_of_a_turn_lie_end_to_end_and_carry_gradients() -> None:
    words = torch.nn.Embedding(20, 3)

    def encode(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert mask.any(-1).all()  # nothing is spent on a passage that is not there
        states: torch.Tensor = words(ids) * mask[..., None]
        return states

    ids, mask = stack([[[5, 6, 7], [8]], [[9, 10]]], pad=1)
    assert ids.tolist() == [[[5, 6, 7], [8, 1, 1]], [[9, 10, 1], [1, 1, 1]]]
    states, flat = fuse(encode, ids, mask)
    assert states.shape == (2, 6, 3)
    assert flat.tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert torch.equal(states[flat.bool()], words(torch.tensor([5, 6, 7, 8, 9, 10])))
    states[flat.bool()].sum().backward()  # type: ignore[no-untyped-call]
    assert words.weight.grad is not None
    assert words.weight.grad[:, 0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9, 10]


def test_shares_sum_to_one_over_the_passages_there_are() -> None:
    _, mask = stack([[[1, 1, 1], [1]], [[1, 1]]], pad=0)
    mass = torch.tensor([[1.0, 0.0, 1.0, 6.0, 9.0, 9.0], [2.0, 2.0, 9.0, 9.0, 9.0, 9.0]])
    assert passage_shares(mass, mask).tolist() == [[0.25, 0.75], [1.0, 0.0]]


def _same(one: Any, other: Any) -> None:
    assert (one.text, one.prompt) == (other.text, other.prompt)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-5)
    assert one.attention == pytest.approx(other.attention, abs=1e-5)


def test_one_passage_fused_is_that_passage_alone(fused: Seq2SeqGenerator, concat: Seq2SeqGenerator) -> None:
    for turn in (ONE, NONE):
        _same(*fused.generate([turn]), *concat.generate([turn]))


def test_batches_mix_turns_of_different_sizes(fused: Seq2SeqGenerator) -> None:
    turns = [ONE, THREE, NONE, TWO]
    for together, turn in zip(fused.generate(turns), turns, strict=True):
        _same(together, *fused.generate([turn]))


def test_the_order_of_the_passages_changes_nothing_but_the_order_of_the_shares(
    fused: Seq2SeqGenerator,
) -> None:
    (forth,) = fused.generate([THREE])
    (back,) = fused.generate([replace(THREE, passages=THREE.passages[::-1])])
    assert forth.text == back.text
    assert forth.attention == pytest.approx(back.attention[::-1], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_attention_is_the_decoders_own(
    fused: Seq2SeqGenerator, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "settings", replace(FUSED, beams=beams))
    turns = [TWO, THREE]
    for turn, said in zip(turns, fused.generate(turns), strict=True):
        assert sum(said.attention) == pytest.approx(1.0)
        rows = [[fused._encode(prompt.text) for prompt in fused._readings(turn)]]
        ids, mask = stack(rows, pad=0)
        (decoded,) = fused._decoder.decode(ids, mask, fused._limits)
        states, flat = fuse(fused._decoder._encode, ids, mask)  # type: ignore[attr-defined]
        start = fused._decoder._model.config.decoder_start_token_id
        with torch.no_grad():
            out = fused._decoder._model(
                encoder_outputs=(states,),
                attention_mask=flat,
                decoder_input_ids=torch.tensor([[start, *decoded.ids[:-1]]]),
                output_attentions=True,
            )
        mass = torch.stack(out.cross_attentions).mean((0, 2)).sum(1)
        wanted = [float(part.sum()) for part in (mass / mass.sum()).view(len(turn.passages), -1)]
        assert said.attention == pytest.approx(wanted, abs=1e-4)


def test_where_it_is_not_known_there_is_no_attention(concat: Seq2SeqGenerator) -> None:
    assert [said.attention for said in concat.generate([NONE, ONE, TWO])] == [(), (1.0,), ()]


def test_a_stream_joined_is_the_fused_answer(fused: Seq2SeqGenerator) -> None:
    for turn in (ONE, TWO, THREE, NONE):
        assert "".join(fused.stream(turn)) == fused.generate([turn])[0].text


def test_more_passages_than_one_input_holds_are_all_read(fused: Seq2SeqGenerator) -> None:
    many = replace(TWO, passages=tuple(replace(models.PLACE, id=f"p{n}") for n in range(9)))
    assert fused.prompt(many).text.count("passage: ") == 9
    assert fused.generate([many])[0].attention == pytest.approx([1 / 9] * 9)


LESSONS: tuple[tuple[Turn, Skill, str], ...] = (
    (TWO, "answer", "norway"),
    (replace(TWO, passages=TWO.passages[::-1]), "answer", "norway"),
    (replace(THREE, question="How long?"), "answer", "six minutes"),
    (replace(THREE, question="How long?"), "rewrite", "how long do i boil an egg"),
    (replace(THREE, question="How long?"), "unanswerable", "answerable"),
    (TWO, "unanswerable", "answerable"),
    (replace(THREE, question="To what?"), "unanswerable", "unanswerable"),
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Seq2SeqGenerator:
    """A model that was taught all three skills, through fusion."""
    tokenizer = models.wordpiece()
    model = models.bart(tokenizer)
    said = [tokenizer(target).input_ids[1:] for *_, target in LESSONS]
    labels = torch.tensor([ids + [-100] * (max(map(len, said)) - len(ids)) for ids in said])

    def count(text: str) -> int:
        return len(tokenizer(text).input_ids)

    rows = []
    for turn, skill, _ in LESSONS:
        prompts = readings(turn, fuse="decoder", budget=48, count_tokens=count, skill=skill)
        rows.append([tokenizer(prompt.text).input_ids for prompt in prompts])
    ids, mask = stack(rows, pad=0)

    def encode(rows: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = model.get_encoder()(input_ids=rows, attention_mask=there).last_hidden_state
        return states

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        states, flat = fuse(encode, ids, mask)
        loss = model(encoder_outputs=(states,), attention_mask=flat, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    folder = tmp_path_factory.mktemp("taught") / "model"
    skilled = replace(FUSED, skills=("answer", "rewrite", "unanswerable"))
    save_checkpoint(model, tokenizer, folder, skilled)
    return Seq2SeqGenerator(folder, device="cpu", fast=False)


def test_one_model_learns_three_skills_through_fusion(taught: Seq2SeqGenerator) -> None:
    assert taught.settings.skills == ("answer", "rewrite", "unanswerable")
    answers = [(turn, target) for turn, skill, target in LESSONS if skill == "answer"]
    assert [text.lower() for text in models.texts(taught, [turn for turn, _ in answers])] == [
        target for _, target in answers
    ]
    (rewritten,) = taught.rewrite([LESSONS[3][0]])
    assert rewritten.lower() == LESSONS[3][2]
    assert taught.unanswerable([turn for turn, skill, _ in LESSONS if skill == "unanswerable"]) == [
        False,
        False,
        True,
    ]


def test_a_rewrite_is_never_empty(taught: Seq2SeqGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught, "_decode", lambda packed: [Decoded((3,), 0.0, (1.0,))] * len(packed))
    assert taught.rewrite([ONE, TWO]) == [ONE.question, TWO.question]


# --- The setting ------------------------------------------------------------------------------------


def test_a_checkpoint_says_how_it_was_fused(tmp_path: Path) -> None:
    tokenizer = models.wordpiece()
    save_checkpoint(models.bart(tokenizer), tokenizer, tmp_path / "model", FUSED)
    assert read_card(tmp_path / "model") == FUSED
    assert Seq2SeqGenerator(tmp_path / "model", device="cpu").settings == FUSED


def test_a_card_from_before_fusion_means_concat() -> None:
    old = {"input_tokens": 384, "answer_tokens": 64, "beams": 1, "abstain_bias": 0.0}
    assert from_mapping(GenerationSettings, old) == GenerationSettings(fuse="concat", skills=("answer",))


@pytest.mark.parametrize(("name", "value"), [("fuse", "encoder"), ("skills", ["answer", "encoder"])])
def test_what_is_not_known_is_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match="encoder"):
        from_mapping(GenerationSettings, {name: value})
