"""BART's architecture as three small ONNX graphs without weights, for one turn at a time.

`encoder`: ids (tokens,) int64 -> states (tokens, width). `cross`: states -> the keys and values that
cross-attention reads, for each layer. `step`: one token -> logits (1, words), the attention given to each
state (states,), and the decoder's own keys and values grown by one. A graph names its weights; they are
given when it is loaded (see `onnx_decoder`), so that nothing is exported or converted on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx import TensorProto, helper

OPSET, MICROSOFT = 18, "com.microsoft"  # ONNX Runtime's fused operators
EPSILON = 1e-5  # of BART's layer norms


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model: layers and heads of each side, width, inner width, words and places."""

    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    width: int
    encoder_inner: int
    decoder_inner: int
    words: int
    places: int


@dataclass(frozen=True, slots=True)
class Built:
    """A serialized graph, and the names of the weights it wants to be given."""

    graph: bytes
    weights: tuple[str, ...]


class _Graph:
    """Nodes and the weights they name, in the order they were added."""

    def __init__(self, name: str, shape: Shape, *, int8: bool = False) -> None:
        self.name, self.shape, self.int8 = name, shape, int8
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, *dims: int | str, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def output(self, name: str, *dims: int | str) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    def weight(self, name: str, *dims: int, kind: int = TensorProto.FLOAT) -> str:
        tensor = TensorProto(name=name, dims=dims, data_type=kind, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="given")
        self.tensors[name] = tensor
        return name

    def constant(self, *values: int) -> str:
        name = "i" + "_".join(map(str, values))
        self.tensors[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **given: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **given))
        return output

    def split(self, x: str, *names: str, axis: int) -> tuple[str, ...]:
        self.nodes.append(helper.make_node("Split", [x], names, axis=axis, num_outputs=len(names)))
        return names

    def reshape(self, x: str, *dims: int) -> str:
        return self.add("Reshape", [x, self.constant(*dims)], f"{x}:{dims}")

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        """x W^T + b for x (n, columns), with W (rows, columns) as PyTorch keeps it."""
        bias = self.weight(f"{name}.bias", rows)
        if not self.int8:
            return self.add(
                "Gemm", [x, self.weight(f"{name}.weight", rows, columns), bias], f"{name}:out", transB=1
            )
        weight = self.weight(f"{name}.int8", columns, rows, kind=TensorProto.INT8)
        scale = self.weight(f"{name}.scale", rows)
        return self.add("DynamicQuantizeMatMul", [x, weight, scale, "", bias], f"{name}:out", MICROSOFT)

    def sum_norm(self, x: str, other: str, name: str) -> str:
        norm = [self.weight(f"{name}.{one}", self.shape.width) for one in ("weight", "bias")]
        return self.add(
            "SkipLayerNormalization", [x, other, *norm], f"{name}:out", MICROSOFT, epsilon=EPSILON
        )

    def words(self, ids: str, places: str, side: str) -> str:
        table = self.weight("shared.table", self.shape.words, self.shape.width)
        words = self.add("Gather", [table, ids], "words")
        return self.sum_norm(words, places, f"{side}.layernorm_embedding")

    def feed_forward(self, x: str, name: str, inner: int) -> str:
        width = self.shape.width
        made = self.add("Gelu", [self.linear(x, f"{name}.fc1", inner, width)], f"{name}:gelu", MICROSOFT)
        return self.sum_norm(self.linear(made, f"{name}.fc2", width, inner), x, f"{name}.final_layer_norm")

    def built(self) -> Built:
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, list(self.tensors.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model: Any = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="rag-chat")
        given = [name for name, tensor in self.tensors.items() if tensor.external_data]
        return Built(bytes(model.SerializeToString()), tuple(given))


def encoder(shape: Shape) -> Built:
    """Return the graph of one passage read on its own."""
    graph = _Graph("encoder", shape)
    ids = graph.input("ids", "tokens", kind=TensorProto.INT64)
    table = graph.weight("encoder.places", shape.places, shape.width)
    count = graph.add("Shape", [ids], "count")
    zero = graph.constant(0)
    places = graph.add("Slice", [table, zero, count, zero], "places")
    x = graph.words(ids, places, "encoder")
    for number in range(shape.encoder_layers):
        x = _encoder_layer(graph, x, f"encoder.layers.{number}")
    graph.add("Identity", [x], "states")
    graph.output("states", "tokens", shape.width)
    return graph.built()


def _encoder_layer(graph: _Graph, x: str, name: str) -> str:
    width = graph.shape.width
    merged = graph.linear(x, f"{name}.self_attn.qkv", 3 * width, width)
    parts = graph.split(merged, *(f"{name}:{one}" for one in "qkv"), axis=1)
    batched = [graph.add("Unsqueeze", [part, graph.constant(0)], f"{part}:batch") for part in parts]
    # The queries are scaled in their weights.
    mixed = graph.add(
        "MultiHeadAttention",
        batched,
        f"{name}:mixed",
        MICROSOFT,
        num_heads=graph.shape.encoder_heads,
        scale=1.0,
    )
    said = graph.linear(graph.reshape(mixed, -1, width), f"{name}.self_attn.out_proj", width, width)
    x = graph.sum_norm(said, x, f"{name}.self_attn_layer_norm")
    return graph.feed_forward(x, name, graph.shape.encoder_inner)


def cross(shape: Shape) -> Built:
    """Return the graph of what cross-attention reads, keys (heads, head, states) and values transposed."""
    graph = _Graph("cross", shape)
    states = graph.input("states", "states", shape.width)
    heads, head = shape.decoder_heads, shape.width // shape.decoder_heads
    for number in range(shape.decoder_layers):
        for kind, order, dims in (("k", (1, 2, 0), (head, "states")), ("v", (1, 0, 2), ("states", head))):
            name = f"decoder.layers.{number}.encoder_attn.{kind}_proj"
            made = graph.reshape(graph.linear(states, name, shape.width, shape.width), -1, heads, head)
            graph.add("Transpose", [made], f"cross.{kind}.{number}", perm=order)
            graph.output(f"cross.{kind}.{number}", heads, *dims)
    return graph.built()


def step(shape: Shape, *, int8: bool) -> Built:
    """Return the graph of one decoding step: token and place (1,) int64 and what came before."""
    graph = _Graph("step", shape, int8=int8)
    token = graph.input("token", 1, kind=TensorProto.INT64)
    place = graph.input("place", 1, kind=TensorProto.INT64)
    table = graph.weight("decoder.places", shape.places, shape.width)
    x = graph.words(token, graph.add("Gather", [table, place], "places"), "decoder")
    looked: list[str] = []
    for number in range(shape.decoder_layers):
        x, weights = _decoder_layer(graph, x, number)
        looked.append(weights)
    together = graph.add("Concat", looked, "looked", axis=0)
    graph.add("ReduceMean", [together, graph.constant(0, 1)], "attention", keepdims=0)
    graph.add("Identity", [graph.linear(x, "lm_head", shape.words, shape.width)], "logits")
    graph.output("logits", 1, shape.words)
    graph.output("attention", "states")
    return graph.built()


def _decoder_layer(graph: _Graph, x: str, number: int) -> tuple[str, str]:
    shape, name = graph.shape, f"decoder.layers.{number}"
    heads, head = shape.decoder_heads, shape.width // shape.decoder_heads
    merged = graph.linear(x, f"{name}.self_attn.qkv", 3 * shape.width, shape.width)
    query, key, value = graph.split(merged, *(f"{name}:{one}" for one in "qkv"), axis=1)
    grown = []
    for kind, new, dims, axis in (("k", key, (head, "said"), 2), ("v", value, ("said", head), 1)):
        past = graph.input(f"past.{kind}.{number}", heads, *dims)
        made = graph.reshape(new, heads, *(size if isinstance(size, int) else 1 for size in dims))
        grown.append(graph.add("Concat", [past, made], f"next.{kind}.{number}", axis=axis))
        graph.output(
            f"next.{kind}.{number}", heads, *(f"{size}+1" if size == "said" else size for size in dims)
        )
    said, _ = _attend(graph, query, *grown, name=f"{name}.self_attn")
    x = graph.sum_norm(said, x, f"{name}.self_attn_layer_norm")
    query = graph.linear(x, f"{name}.encoder_attn.q_proj", shape.width, shape.width)
    keys = graph.input(f"cross.k.{number}", heads, head, "states")
    values = graph.input(f"cross.v.{number}", heads, "states", head)
    said, weights = _attend(graph, query, keys, values, name=f"{name}.encoder_attn")
    x = graph.sum_norm(said, x, f"{name}.encoder_attn_layer_norm")
    return graph.feed_forward(x, name, shape.decoder_inner), weights


def _attend(graph: _Graph, query: str, keys: str, values: str, *, name: str) -> tuple[str, str]:
    """What one token (1, width) gets from attention, and the weights (heads, 1, n)."""
    width, heads = graph.shape.width, graph.shape.decoder_heads
    query = graph.reshape(query, heads, 1, width // heads)
    weights = graph.add("MatMul", [query, keys], f"{name}:scores")
    weights = graph.add("Softmax", [weights], f"{name}:weights", axis=-1)
    mixed = graph.reshape(graph.add("MatMul", [weights, values], f"{name}:mixed"), 1, width)
    return graph.linear(mixed, f"{name}.out_proj", width, width), weights
