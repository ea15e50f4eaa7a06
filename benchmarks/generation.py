"""How fast the packaged reader answers, by each way to run it, and whether they say the same.

    python benchmarks/generation.py [--rounds N] [--threads N] [--prompts N] [--index DIR] [-o OUT.json]

CPU: 512 tokens read and 40 said greedily, as one input and as five passages of 150 fused in the decoder (as
served), of random tokens. The ways take turns, round by round; a ratio is the median of the rounds' ratios to
transformers in float32. CPU time is what the process used: other work on the machine disturbs it less.
Agreement: turns of the starter test conversations with five passages retrieved. `far` counts the answers that
differ where float32 has the two tokens' log-probabilities over 0.1 apart, so that they are no tie.
GPU, where there is one: tokens a second, time to the first token and memory, for a batch of 64 and of 1, of
the packaged reader and of a random model of flan-t5-base's size, in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from rag_chat.config import Fuse
from rag_chat.conversation.query import stand_alone
from rag_chat.corpus.readers import read_sources
from rag_chat.evaluation.metrics import token_f1
from rag_chat.generation.decoding import NO_REPEAT, Decoded, Decoder, Limits, TorchDecoder
from rag_chat.generation.fusion import fuse, readings, stack
from rag_chat.generation.onnx_decoder import OnnxDecoder
from rag_chat.generation.seq2seq import load_seq2seq, packaged_reader
from rag_chat.retrieval.index import Index
from rag_chat.training.examples import turn_examples
from rag_chat.types import Dialogue, Turn

TOKENS = 40
SHAPES = {"one input of 512": (1, 512), "five passages of 150": (5, 150)}
NEVER = 1  # [unused0] as the end token: nothing ends before TOKENS
TIE = 0.1
FLOOR = "transformers fp32"
ROOT = Path(__file__).parents[1]

Run = Callable[[torch.Tensor, torch.Tensor], object]


def reader() -> Any:
    """The packaged model, made to go on until it has said TOKENS."""
    model = load_seq2seq("reader")[0].eval()
    model.generation_config.max_length = model.generation_config.min_length = None
    model.generation_config.eos_token_id = NEVER
    return model


def plain(model: Any) -> Run:
    """`generate` as transformers has it, over states that were encoded passage by passage."""

    def encode(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def run(ids: torch.Tensor, mask: torch.Tensor) -> object:
        with torch.inference_mode():
            states, flat = fuse(encode, ids, mask)
            return model.generate(
                encoder_outputs=BaseModelOutput(states),
                attention_mask=flat,
                max_new_tokens=TOKENS,
                do_sample=False,
                no_repeat_ngram_size=NO_REPEAT,
            )

    return run


def ours(decoder: Decoder) -> Run:
    return lambda ids, mask: decoder.decode(ids, mask, Limits(TOKENS))


def ctranslate2(quantization: str, threads: int) -> Run:
    """Takes no encoder states, and so reads one input only."""
    from ctranslate2 import Translator
    from ctranslate2.converters import TransformersConverter

    model, tokenizer = load_seq2seq("reader")
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token  # it asks for them
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made = TransformersConverter(folder).convert(f"{folder}/made", quantization=quantization)
        translator = Translator(made, device="cpu", intra_threads=threads, inter_threads=1)

    def run(ids: torch.Tensor, mask: torch.Tensor) -> object:  # noqa: ARG001
        tokens = [tokenizer.convert_ids_to_tokens(ids.flatten().tolist())]
        return translator.translate_batch(
            tokens,
            beam_size=1,
            min_decoding_length=TOKENS,
            max_decoding_length=TOKENS,
            no_repeat_ngram_size=NO_REPEAT,
        )

    return run


def ways(threads: int) -> dict[str, Run]:
    """Every way to run the model that is installed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is on its way out
        dynamic = torch.ao.quantization.quantize_dynamic(reader(), {torch.nn.Linear})
    found = {
        FLOOR: plain(reader()),
        "transformers fp32, as served": ours(TorchDecoder(reader())),
        "torch dynamic int8": plain(dynamic),
        "ONNX Runtime fp32, as served": ours(OnnxDecoder(reader())),
        "ONNX Runtime, decoding in int8": ours(OnnxDecoder(reader(), int8=True)),
    }
    try:
        found |= {f"CTranslate2 {kind}": ctranslate2(kind, threads) for kind in ("float32", "int8")}
    except ImportError:
        print("CTranslate2 is not installed, and left out.")
    return found


def measure(runs: dict[str, Run], shape: tuple[int, int], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each way by the clock and of CPU time, and ratios to FLOOR."""
    ids = torch.randint(1000, 30000, (1, *shape), generator=torch.Generator().manual_seed(13))
    mask = torch.ones_like(ids)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):  # the first one warms up
        for name, run in runs.items():
            clock, used = time.perf_counter(), time.process_time()
            run(ids, mask)
            if number:
                taken[name].append(
                    (1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - used))
                )
    return {
        name: {
            "clock_ms": statistics.median(clock for clock, _ in times),
            "least_clock_ms": min(clock for clock, _ in times),
            "cpu_ms": statistics.median(used for _, used in times),
            "clock_ratio": statistics.median(a[0] / b[0] for a, b in zip(times, taken[FLOOR], strict=True)),
            "cpu_ratio": statistics.median(a[1] / b[1] for a, b in zip(times, taken[FLOOR], strict=True)),
        }
        for name, times in taken.items()
    }


def agreement(count: int, index: Path | None, way: Fuse) -> dict[str, float]:
    """How many of the answers differ between float32 by transformers and each ONNX precision."""
    model, tokenizer = load_seq2seq("reader")
    examples = [
        example
        for dialogue in read_sources([ROOT / "corpora/dialogues/test.jsonl"])
        if isinstance(dialogue, Dialogue)
        for example in turn_examples(dialogue)
    ][:count]
    turns = _with_passages([example.turn for example in examples], index)

    def number(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, verbose=False).input_ids
        return ids

    inputs = [
        stack(
            [[number(p.text) for p in readings(turn, fuse=way, budget=384, count_tokens=_count(number))]],
            pad=0,
        )
        for turn in turns
    ]

    def said(decoder: Decoder) -> list[Decoded]:
        return [one for ids, mask in inputs for one in decoder.decode(ids, mask, Limits(64))]

    def f1(answers: Sequence[Decoded]) -> float:
        texts = tokenizer.batch_decode([a.ids for a in answers], skip_special_tokens=True)
        return 100 * statistics.mean(token_f1(t, e.target) for t, e in zip(texts, examples, strict=True))

    decoders = {"int8": OnnxDecoder(model.eval(), int8=True), "fp32": OnnxDecoder(model)}
    exact = said(TorchDecoder(model))
    result: dict[str, float] = {"prompts": len(turns), "f1_transformers": f1(exact)}
    for name, decoder in decoders.items():
        found = said(decoder)
        gaps = [
            _gap(model, *given, one.ids, other.ids)
            for given, one, other in zip(inputs, exact, found, strict=True)
            if one.ids != other.ids
        ]
        result[f"{name}_differ"] = len(gaps)
        result[f"{name}_far"] = sum(gap > TIE for gap in gaps)
        result[f"f1_{name}"] = f1(found)
    return result


def _count(number: Callable[[str], list[int]]) -> Callable[[str], int]:
    return lambda text: len(number(text))


def _gap(model: Any, ids: Any, mask: Any, one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """How far apart float32 has the tokens at the first place where two answers differ."""
    place = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    start = model.config.decoder_start_token_id
    with torch.inference_mode():
        states, flat = fuse(
            lambda i, m: model.get_encoder()(input_ids=i, attention_mask=m).last_hidden_state, ids, mask
        )
        said = torch.tensor([[start, *one[:place]]])
        out = model(encoder_outputs=(states,), attention_mask=flat, decoder_input_ids=said)
        likely = out.logits[0, -1].log_softmax(-1)
    return abs(float(likely[one[place]] - likely[other[place]]))


def _with_passages(turns: Sequence[Turn], folder: Path | None) -> list[Turn]:
    queries = [stand_alone(turn.question, turn.history) for turn in turns]
    with tempfile.TemporaryDirectory() as made:
        opened = (
            Index.open(folder) if folder else Index.build([str(ROOT / "corpora/topics")], f"{made}/index")
        )
        with opened as index:
            hits = index.search_many(queries, 5)
    return [
        replace(turn, passages=tuple(hit.passage for hit in found), query=query)
        for turn, found, query in zip(turns, hits, queries, strict=True)
    ]


def on_gpu() -> dict[str, dict[str, float]]:
    """Tokens a second, first token and memory in bfloat16, five passages of 150 tokens, TOKENS said."""
    from transformers import T5Config, T5ForConditionalGeneration

    base = T5Config(
        vocab_size=32128,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=12,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=NEVER,
        decoder_start_token_id=0,
    )
    made = {"reader": reader, "random flan-t5-base": lambda: T5ForConditionalGeneration(base).eval()}
    result = {}
    for name, make in made.items():
        model = make().to("cuda", torch.bfloat16)
        model.generation_config.min_new_tokens = None
        decoder = TorchDecoder(model)
        for batch in (1, 64):
            ids = torch.randint(1000, 30000, (batch, 5, 150), generator=torch.Generator().manual_seed(13))
            result[f"{name}, batch {batch}"] = _on_gpu(decoder, ids)
    return result


def _on_gpu(decoder: Decoder, ids: torch.Tensor) -> dict[str, float]:
    def seconds(tokens: int) -> tuple[float, int]:
        torch.cuda.synchronize()
        started = time.perf_counter()
        said = sum(len(one.ids) for one in decoder.decode(ids, torch.ones_like(ids), Limits(tokens)))
        torch.cuda.synchronize()
        return time.perf_counter() - started, said

    seconds(TOKENS)  # warms up
    torch.cuda.reset_peak_memory_stats()
    whole = [seconds(TOKENS) for _ in range(5)]
    return {
        "tokens_per_second": statistics.median(said / taken for taken, said in whole),
        "first_token_ms": 1000 * statistics.median(seconds(1)[0] for _ in range(5)),
        "memory_mib": torch.cuda.max_memory_allocated() / 2**20,
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of numbers as a Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(f'{row[column]:.4g}' for column in columns)} |" for name, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--index", type=Path, help="an index over corpora/topics; by default it is built")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # for ONNX Runtime
    result: dict[str, Any] = {
        "threads": asked.threads,
        "rounds": asked.rounds,
        "model": str(packaged_reader()),
    }
    if torch.cuda.is_available():
        result["gpu"] = on_gpu()
        print(table(result["gpu"]))
    if asked.rounds:
        runs = ways(asked.threads)
        for name, shape in SHAPES.items():
            able = {k: run for k, run in runs.items() if shape[0] == 1 or not k.startswith("CTranslate2")}
            result[name] = measure(able, shape, asked.rounds)
            print(f"\n{name}, {TOKENS} tokens said\n\n{table(result[name])}", flush=True)
    if asked.prompts:
        result["agreement"] = {
            way: agreement(asked.prompts, asked.index, way) for way in ("concat", "decoder")
        }
        print(f"\n{table(result['agreement'])}")
    if asked.output:
        asked.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
