"""A real encoder-decoder answers, streams, keeps its budget and its manners."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import models
import pytest
import torch

from rag_chat.errors import ModelError
from rag_chat.generation import load_generator
from rag_chat.generation.checkpoint import save_checkpoint
from rag_chat.generation.decoding import Decoded
from rag_chat.generation.pieces import WordPieces
from rag_chat.generation.seq2seq import Seq2SeqGenerator, load_seq2seq
from rag_chat.types import Generated, Message, Passage, Turn

TURNS = [example.turn for example in models.PAIRS]
OTHERS = [
    Turn("What was said of the city?", (Message("user", "An egg?"),), (models.PLACE, models.EGGS)),
    Turn("Eggs", (), (models.EGGS,)),
    Turn(""),
]


@pytest.fixture(scope="module")
def reader(trained_reader: Path) -> Seq2SeqGenerator:
    return Seq2SeqGenerator(trained_reader, device="cpu", fast=False)


@pytest.fixture(scope="module")
def quick(trained_reader: Path) -> Seq2SeqGenerator:
    """The same model in 8 bit."""
    return Seq2SeqGenerator(trained_reader, device="cpu")


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Seq2SeqGenerator:
    """A cased model with random weights: it talks nonsense, in words of every kind."""
    folder = tmp_path_factory.mktemp("cased") / "model"
    tokenizer = models.wordpiece(
        (*models.WORDS, "Paris", "don", "n't", "'s", "'re", "do", "not"), uncased=False
    )
    save_checkpoint(
        models.bart(tokenizer, seed=4), tokenizer, folder, replace(models.SHORT, answer_tokens=30)
    )
    return Seq2SeqGenerator(folder, device="cpu", fast=False)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Seq2SeqGenerator:
    return Seq2SeqGenerator(models.t5(tmp_path_factory.mktemp("t5")), device="cpu", settings=models.SHORT)


def test_says_what_it_was_taught_as_the_evidence_writes_it(reader: Seq2SeqGenerator) -> None:
    assert tuple(models.texts(reader, TURNS)) == models.ANSWERS
    prompt = reader.prompt(TURNS[0])
    assert prompt.text == "question: Where is Tromsø?\npassage: Tromsø: The city of Tromsø lies in Norway."
    assert prompt.dropped == ()


@pytest.mark.parametrize("name", ["reader", "quick", "cased", "t5"])
def test_a_batch_answers_as_one_by_one(name: str, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(name)
    turns = [*TURNS, *OTHERS] * 4  # more than one batch
    alone = [models.texts(generator, [turn])[0] for turn in turns[:5]]
    assert models.texts(generator, turns) == alone * 4
    assert generator.generate([]) == []


@pytest.mark.parametrize(("name", "beams"), [("reader", 1), ("cased", 1), ("t5", 1), ("t5", 3)])
def test_the_log_likelihood_is_the_mean_over_the_answers_tokens(
    name: str, beams: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = request.getfixturevalue(name)
    monkeypatch.setattr(generator, "settings", replace(generator.settings, beams=beams))
    model = generator._decoder._model
    for turn, said in zip(TURNS, generator.generate(TURNS), strict=True):
        inputs = generator._tokenizer([generator.prompt(turn).text], return_tensors="pt")
        inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        options = {"max_new_tokens": generator.settings.answer_tokens, "no_repeat_ngram_size": 4}
        (ids,) = model.generate(**inputs, num_beams=beams, **options)
        logits = model(**inputs, decoder_input_ids=ids[None, :-1]).logits[0]
        each = torch.log_softmax(logits, -1).gather(1, ids[1:, None])
        assert said.log_likelihood == pytest.approx(each.mean().item(), abs=1e-5)


@pytest.mark.parametrize("name", ["reader", "quick", "cased", "t5"])
def test_the_stream_joined_is_the_answer(name: str, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(name)
    for turn in [*TURNS, *OTHERS]:
        pieces = list(generator.stream(turn))
        assert "".join(pieces) == models.texts(generator, [turn])[0]


def test_the_stream_comes_in_pieces(reader: Seq2SeqGenerator) -> None:
    assert len(list(reader.stream(TURNS[1]))) > 2


def test_the_word_for_no_answer_stays_as_it_is(
    reader: Seq2SeqGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = tuple(reader._encode("unanswerable"))
    monkeypatch.setattr(reader, "_decode", lambda packed, _=None: [Decoded(word, 0.0, (1.0,))] * len(packed))
    steps = ([said] for said in (reader._encode("un"), Decoded(word, 0.0, (1.0,))))
    monkeypatch.setattr(reader, "_steps", lambda *_: steps)
    assert models.texts(reader, [TURNS[0]])[0] == "unanswerable"
    assert list(reader.stream(TURNS[0])) == ["unanswerable"]


@pytest.mark.parametrize(
    "running",
    [
        ["it", "it '", "it's", "it's so"],
        ["we", "we do", "we do n", "we don't", "we don't know it"],
        [""],
        [],
        ["", "a"],
    ],
)
def test_what_was_sent_is_never_taken_back(running: list[str]) -> None:
    pieces, last = WordPieces(), running[-1] if running else ""
    told = [piece for text in running for piece in pieces.more(text)]
    assert "".join([*told, *pieces.rest(last)]) == last


def test_many_are_told_together_as_each_alone(reader: Seq2SeqGenerator) -> None:
    turns = [*TURNS, *OTHERS]
    said: dict[int, list[str]] = {row: [] for row in range(len(turns))}
    whole: dict[int, Generated] = {}
    for row, one in reader.stream_many(turns, lambda _: True):
        assert row not in whole
        if isinstance(one, Generated):
            whole[row] = one
        else:
            said[row].append(one)
    alone = reader.generate(turns)
    assert [whole[row].text for row in range(len(turns))] == [one.text for one in alone]
    assert ["".join(said[row]) for row in range(len(turns))] == [one.text for one in alone]


def test_an_answer_that_nobody_wants_is_given_up_and_the_others_are_not(reader: Seq2SeqGenerator) -> None:
    asked = list[int]()

    def wanted(row: int) -> bool:
        asked.append(row)
        return row == 1

    whole = {
        row: said
        for row, said in reader.stream_many([TURNS[0], TURNS[1]], wanted)
        if isinstance(said, Generated)
    }
    assert whole[1].text == models.texts(reader, [TURNS[1]])[0]
    assert len(whole[0].text.split()) <= 1
    assert asked.count(0) > 1


def test_closing_the_stream_stops_the_generation_and_ends_its_thread(
    cased: Seq2SeqGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, forward = list[threading.Thread](), cased._decoder._model.forward

    @wraps(forward)
    def counted(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        time.sleep(0.05)  # slow enough for the stream to be closed before the end, however busy the machine
        return forward(*args, **options)

    long = replace(cased.settings, answer_tokens=64)
    monkeypatch.setattr(cased, "settings", long)
    monkeypatch.setattr(cased._decoder._model.generation_config, "min_new_tokens", 60)
    monkeypatch.setattr(cased._decoder._model, "forward", counted)
    stream = cased.stream(TURNS[0])
    next(stream)
    (worker,) = set(threads)
    assert worker.is_alive()
    stream.close()
    assert not worker.is_alive()
    assert len(threads) < 60


def test_a_failure_while_streaming_is_raised(
    reader: Seq2SeqGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(**_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(reader._decoder._model, "generate", out_of_memory)
    with pytest.raises(ModelError, match="out of memory"):
        list(reader.stream(TURNS[0]))
    with pytest.raises(ModelError, match="out of memory"):
        reader.generate(TURNS)


def test_several_threads_may_ask_at_once(reader: Seq2SeqGenerator) -> None:
    wanted = list(models.ANSWERS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: models.texts(reader, TURNS), range(16)):
            assert found == wanted


def test_the_budget_is_the_models(reader: Seq2SeqGenerator, trained_reader: Path) -> None:
    assert reader.settings == models.SHORT  # read from the checkpoint
    many = Turn("Where?", (), tuple(replace(models.PLACE, id=f"p{n}") for n in range(9)))
    packed = reader.prompt(many)
    assert reader._count(packed.text) <= 48
    assert packed.dropped[0].startswith("passage: p")
    greedy = replace(models.SHORT, input_tokens=999, answer_tokens=999)
    generous = Seq2SeqGenerator(trained_reader, device="cpu", settings=greedy)
    assert generous.generate([many])  # the model has 64 places, and no more are used
    assert generous._count(generous.prompt(many).text) <= 64
    assert generous.prompt(many).dropped


def test_answers_have_so_many_tokens_at_most(cased: Seq2SeqGenerator) -> None:
    for answer in models.texts(cased, OTHERS):
        assert len(cased._tokenizer(answer, add_special_tokens=False).input_ids) <= 30


def test_a_bias_against_abstaining_makes_the_model_answer(trained_reader: Path) -> None:
    eager = Seq2SeqGenerator(trained_reader, device="cpu", settings=replace(models.SHORT, abstain_bias=99.0))
    never = Seq2SeqGenerator(trained_reader, device="cpu", settings=replace(models.SHORT, abstain_bias=-99.0))
    assert all(answer.lower().startswith("unanswerable") for answer in models.texts(eager, TURNS))
    assert tuple(models.texts(never, TURNS)) == models.ANSWERS


def test_unicode_and_unknown_words(reader: Seq2SeqGenerator) -> None:
    odd = Passage("p", "p", "\u0000", "日本 \U0001f95a e\u0301 \u202e ﬁ", 0, 12)
    assert len(reader.generate([Turn("🥚?" * 30, (Message("user", "\ud7ff"),), (odd,))])) == 1


@pytest.mark.parametrize("model", ["reader", "t5"])
def test_runs_in_float32_where_there_is_no_cuda(model: str, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(model)
    assert {weight.dtype for weight in generator._decoder._model.parameters()} == {torch.float32}
    assert not generator._decoder._model.training


def test_picks_the_device_and_never_float16(trained_reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, dtype: Any = None) -> tuple[Any, Any]:
        asked.append(dtype)
        model, tokenizer = load_seq2seq(name, dtype)
        monkeypatch.setattr(model, "to", lambda _: model)
        return model, tokenizer

    monkeypatch.setattr("rag_chat.generation.seq2seq.load_seq2seq", load)
    for cuda, mps, device in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert Seq2SeqGenerator(trained_reader).device == device
    Seq2SeqGenerator(trained_reader, device="cuda:1")
    assert asked == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]


def test_weights_saved_in_half_precision_are_widened(tmp_path: Path) -> None:
    tokenizer = models.wordpiece()
    save_checkpoint(models.bart(tokenizer).half(), tokenizer, tmp_path / "half", models.SHORT)
    model, _ = load_seq2seq(str(tmp_path / "half"))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_is_loaded_by_folder(trained_reader: Path) -> None:
    generator = load_generator(trained_reader, embedder=models.WordEmbedder(), device="cpu")
    assert isinstance(generator, Seq2SeqGenerator)
    assert generator.name == str(trained_reader)


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-model", "not a name!"])
def test_a_model_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="could not be loaded") as caught:
        Seq2SeqGenerator(name)
    assert name in caught.value.problem
    assert "-m extractive" in caught.value.fix


def test_a_folder_with_another_kind_of_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be loaded"):
        Seq2SeqGenerator(models.bert(tmp_path))


def test_weights_that_were_cut_off(tmp_path: Path) -> None:
    folder = models.t5(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:999])
    with pytest.raises(ModelError, match="could not be loaded"):
        Seq2SeqGenerator(folder)
