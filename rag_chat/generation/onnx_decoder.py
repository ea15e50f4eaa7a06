"""BART's architecture on the CPU by ONNX Runtime: greedy decoding, a turn at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rag_chat.generation.copying import LEAST
from rag_chat.generation.decoding import NO_REPEAT, Decoded, Limits, OnStep

if TYPE_CHECKING:
    from torch import Tensor

    from rag_chat.generation.graph import Built, Shape

Array = NDArray[Any]

logger = logging.getLogger(__name__)

INT8_LARGEST = 63
"""The AVX2 kernels add pairs of products in 16 bits: 7-bit weights cannot overflow them."""

LEAST_AGREEMENT = 0.999

PROBE_TOKENS = 32

_FIRST_PLACE = 2  # BART's learned places begin at row 2


def fast_decoder(model: Any) -> OnnxDecoder | None:
    """An OnnxDecoder for a model loaded on the CPU, or None where transformers has to serve it.

    That is where it is no BART, `onnx` (extra `fast`) is not installed, or the two do not say the same.
    """
    if not _can_run(model):
        return None
    decoder = OnnxDecoder(model)
    agreement = decoder.agreement(model)
    if not agreement >= LEAST_AGREEMENT:  # nor where it is not a number
        logger.warning("ONNX Runtime computes something else (agreement %.3f) and is not used.", agreement)
        return None
    return decoder


def _can_run(model: Any) -> bool:
    config = model.config
    return bool(
        config.model_type == "bart"
        and config.activation_function == "gelu"
        and not config.scale_embedding
        and config.tie_word_embeddings
        and isinstance(model.generation_config.eos_token_id, int)
        and find_spec("onnx") is not None
    )


class OnnxDecoder:
    """A BART model as ONNX graphs; the weights are taken from the loaded model, which is then not needed.

    A turn has one answer whatever its company. int8: decode with 8-bit weights, one scale for each output;
    faster, but too many of the packaged reader's answers change for it to be what is served.
    """

    def __init__(self, model: Any, *, int8: bool = False) -> None:
        from rag_chat.generation import graph

        shape = _shape(model.config)
        self._start = int(model.config.decoder_start_token_id)
        self._end = int(model.generation_config.eos_token_id)
        self._kept = [f"{kind}.{n}" for n in range(shape.decoder_layers) for kind in "kv"]
        heads, head = shape.decoder_heads, shape.width // shape.decoder_heads
        self._nothing = {
            "k": np.empty((heads, head, 0), np.float32),
            "v": np.empty((heads, 0, head), np.float32),
        }
        weights = _weights(model, shape)
        if int8:
            weights |= _quantized(weights)
        built = (graph.encoder(shape), graph.cross(shape), graph.step(shape, int8=int8))
        self._encoder, self._cross, self._step = (_session(one, weights) for one in built)

    def decode(
        self, ids: Tensor, mask: Tensor, limits: Limits, on_step: OnStep | None = None
    ) -> list[Decoded]:
        """Answer each turn: see Decoder. Beams are not used."""
        turns = zip(ids.numpy(), mask.bool().numpy(), strict=True)
        passages = ([row[real] for row, real in zip(*turn, strict=True) if real.any()] for turn in turns)
        try:
            answers = [self._begin(rows, limits) for rows in passages]
            while going := [answer for answer in answers if not answer.ended]:
                for answer in going:
                    answer.advance()
                if on_step:
                    for answer, unwanted in zip(answers, on_step([a.said[1:] for a in answers]), strict=True):
                        answer.ended |= unwanted
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise RuntimeError(str(error)) from error
        return [answer.decoded() for answer in answers]

    def agreement(self, model: Any) -> float:
        """The correlation of the first logits, on a probe, with those of the model it was made from."""
        import torch

        probe = torch.arange(PROBE_TOKENS)[None] * 7 % model.config.vocab_size
        with torch.inference_mode():
            exact = model(input_ids=probe, decoder_input_ids=torch.tensor([[self._start]])).logits[0, 0]
        (states,) = self._encoder.run(None, {"ids": probe[0].numpy()})
        found, _ = next(self._steps([self._start], states))
        return float(np.corrcoef(exact.numpy(), found)[0, 1])

    def _begin(self, passages: Sequence[Array], limits: Limits) -> _Answer:
        states = np.concatenate([self._encoder.run(None, {"ids": ids})[0] for ids in passages])
        said = [self._start]
        return _Answer(said, self._end, self._steps(said, states), passages, limits)

    def _steps(self, said: Sequence[int], states: Array) -> Iterator[tuple[Array, Array]]:
        """Yield logits (words,) and attention (states,) for each token that `said` has grown by."""
        names = [f"cross.{one}" for one in self._kept]
        given = dict(
            zip(names, self._cross.run_with_ort_values(names, {"states": _value(states)}), strict=True)
        )
        past = [_value(self._nothing[one[0]]) for one in self._kept]
        wanted = ["logits", "attention", *(f"next.{one}" for one in self._kept)]
        while True:
            given |= {f"past.{one}": value for one, value in zip(self._kept, past, strict=True)}
            given["token"] = _value(np.array(said[-1:], np.int64))
            given["place"] = _value(np.array([len(said) - 1], np.int64))
            logits, attention, *past = self._step.run_with_ort_values(wanted, given)
            yield logits.numpy()[0], attention.numpy()


class _Answer:
    """One answer in the making: `said` are its tokens and the start; `ended` says that no more will come."""

    def __init__(
        self,
        said: list[int],
        end: int,
        steps: Iterator[tuple[Array, Array]],
        passages: Sequence[Array],
        limits: Limits,
    ) -> None:
        self.said, self.ended = said, False
        self._end, self._steps, self._limits = end, steps, limits
        self._source = np.concatenate(passages)
        self._starts = np.cumsum([0, *(len(ids) for ids in passages[:-1])])
        self._mass = np.zeros(len(self._source), np.float32)
        self._likely = 0.0
        self._biased: float | None = None

    def advance(self) -> None:
        """Say one more token."""
        logits, attention = next(self._steps)
        if self._limits.copy is not None:
            logits = _mixed(logits, attention, self._source, self._limits.copy)
        total = _log_sum(logits)
        if self._limits.bias and len(self.said) == 1:
            self._biased = float(logits[self._limits.bias[0]] - total)
        token = _choose(logits, self.said, self._limits)
        self._likely += float(logits[token] - total)
        self._mass += attention
        self.said.append(token)
        self.ended = token == self._end or len(self.said) > self._limits.tokens

    def decoded(self) -> Decoded:
        """What was said, once one token at least was."""
        ids = tuple(self.said[1:])
        shares = np.add.reduceat(self._mass, self._starts) / self._mass.sum()
        return Decoded(ids, self._likely / len(ids), tuple(shares.tolist()), self._biased)


def _choose(logits: Array, said: Sequence[int], limits: Limits) -> int:
    """The likeliest token after the bias that does not repeat a run of NO_REPEAT."""
    scores = logits.copy()
    if limits.bias:
        scores[limits.bias[0]] += limits.bias[1]
    run = NO_REPEAT - 1
    ending = said[-run:]
    scores[[said[i + run] for i in range(len(said) - run) if said[i : i + run] == ending]] = -np.inf
    return int(scores.argmax())


def _mixed(logits: Array, attention: Array, source: Array, token: int) -> Array:
    """The log-probabilities with what is copied: see `copying.mixed`."""
    known = np.exp(logits - _log_sum(logits))
    copied, known[token] = known[token] * attention, 0.0
    np.add.at(known, source, copied)
    return np.log(known + LEAST)


def _log_sum(logits: Array) -> float:
    most = logits.max()
    return float(most + np.log(np.exp(logits - most).sum()))


def _shape(config: Any) -> Shape:
    from rag_chat.generation.graph import Shape

    return Shape(
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_heads=config.encoder_attention_heads,
        decoder_heads=config.decoder_attention_heads,
        width=config.d_model,
        encoder_inner=config.encoder_ffn_dim,
        decoder_inner=config.decoder_ffn_dim,
        words=config.vocab_size,
        places=config.max_position_embeddings,
    )


def _weights(model: Any, shape: Shape) -> dict[str, Array]:
    """The model's float32 weights under the names that the graphs have for them.

    Queries, keys and values of self-attention are one layer; queries are scaled as attention would.
    """
    found = {
        name.removeprefix("model."): value.float().cpu().numpy() for name, value in model.state_dict().items()
    }
    made = {name: value for name, value in found.items() if ".layers." in name or "layernorm" in name}
    made["shared.table"] = made["lm_head.weight"] = found["shared.weight"]
    made["lm_head.bias"] = found["final_logits_bias"][0]
    sides = {
        "encoder": (shape.encoder_layers, shape.encoder_heads),
        "decoder": (shape.decoder_layers, shape.decoder_heads),
    }
    for side, (layers, heads) in sides.items():
        made[f"{side}.places"] = np.ascontiguousarray(found[f"{side}.embed_positions.weight"][_FIRST_PLACE:])
        scale = np.float32((shape.width // heads) ** -0.5)
        for kind in ("weight", "bias"):
            for number in range(layers):
                name = f"{side}.layers.{number}"
                query, key, value = (made.pop(f"{name}.self_attn.{one}_proj.{kind}") for one in "qkv")
                made[f"{name}.self_attn.qkv.{kind}"] = np.concatenate([query * scale, key, value])
                if side == "decoder":
                    made[f"{name}.encoder_attn.q_proj.{kind}"] = (
                        made[f"{name}.encoder_attn.q_proj.{kind}"] * scale
                    )
    return made


def _quantized(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Each linear layer's weight as int8, (in, out), with a scale for each output."""
    made: dict[str, Array] = {}
    for name, weight in weights.items():
        if weight.ndim == 2 and name.startswith(("decoder.layers.", "lm_head.weight")):
            stem = name.removesuffix(".weight")
            scale = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / INT8_LARGEST
            made[f"{stem}.scale"] = scale
            made[f"{stem}.int8"] = np.ascontiguousarray(np.rint(weight / scale[:, None]).T.astype(np.int8))
    return made


def _session(built: Built, weights: Mapping[str, Array]) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors: it warns of machines that it does not know
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the CPU to others
    values = [_value(weights[name]) for name in built.weights]
    options.add_external_initializers(list(built.weights), values)
    return onnxruntime.InferenceSession(built.graph, options, providers=["CPUExecutionProvider"])


def _value(array: Array) -> Any:
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)
