"""The packaged MiniLM as ONNX graphs without weights: what `rag_chat/models/embedder` is written by.

Run `python -m rag_chat.index.graph` after a change (it needs the packages of the test extra). A graph
names its weights as they are named in the model's safetensors file, from where they are read; so there
is nothing to export or to convert when the library is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from rag_chat.index.minilm import GRAPHS, QUANTIZED, REFERENCE_FILE, REFERENCE_TEXT

LAYERS, HEADS, WIDTH, INNER = 6, 12, 384, 1536
WORDS, PLACES, KINDS = 30522, 512, 2
EPSILON = 1e-12
OPSET, MICROSOFT = 18, "com.microsoft"  # ONNX Runtime's fused operators


class Graph:
    """Nodes and the weights they name, in the order they were added."""

    def __init__(self, *, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}

    def weight(self, name: str, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        """Name a weight whose values are given when the graph is loaded."""
        tensor = TensorProto(name=name, dims=shape, data_type=kind, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="given")
        self.tensors[name] = tensor
        return name

    def constant(self, name: str, values: Sequence[int]) -> str:
        self.tensors[name] = onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **given: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **given))
        return output

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        """x W^T + b for x (tokens, columns), as PyTorch keeps W: (rows, columns)."""
        bias = self.weight(f"{name}.bias", rows)
        if not self.int8:
            weight = self.weight(f"{name}.weight", rows, columns)
            return self.add("Gemm", [x, weight, bias], f"{name}.out", transB=1)
        weight = self.weight(f"{name}.weight{QUANTIZED}", columns, rows, kind=TensorProto.INT8)
        scale = self.weight(f"{name}.weight.scale", rows)
        inputs = [x, weight, scale, "", bias]
        return self.add("DynamicQuantizeMatMul", inputs, f"{name}.out", MICROSOFT)

    def add_and_norm(self, x: str, residual: str, name: str) -> str:
        norm = [self.weight(f"{name}.LayerNorm.{one}", WIDTH) for one in ("weight", "bias")]
        inputs = [x, residual, *norm]
        return self.add("SkipLayerNormalization", inputs, f"{name}.normed", MICROSOFT, epsilon=EPSILON)


def minilm(*, int8: bool) -> bytes:
    """Return the graph: ids and mask, both (texts, tokens) int32, to unit vectors (texts, 384) float32."""
    graph = Graph(int8=int8)
    hidden = _embeddings(graph)
    graph.add("Shape", [hidden], "shape")
    graph.constant("flat", [-1, WIDTH])
    graph.constant("one", [1])
    x = graph.add("Reshape", [hidden, "flat"], "embeddings.flat")
    for number in range(LAYERS):
        x = _layer(graph, x, f"encoder.layer.{number}")
    _mean_of_tokens(graph, graph.add("Reshape", [x, "shape"], "tokens"))
    given = [helper.make_tensor_value_info(name, TensorProto.INT32, ["n", "t"]) for name in ("ids", "mask")]
    made = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", WIDTH])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "minilm", given, made, list(graph.tensors.values())),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=10,
        producer_name="rag-chat",
    )
    return bytes(model.SerializeToString())


def _embeddings(graph: Graph) -> str:
    graph.add("Sub", ["ids", "ids"], "kinds")
    tables = {"word": WORDS, "position": PLACES, "token_type": KINDS}
    weights = [graph.weight(f"embeddings.{one}_embeddings.weight", n, WIDTH) for one, n in tables.items()]
    norm = [graph.weight(f"embeddings.LayerNorm.{one}", WIDTH) for one in ("weight", "bias")]
    graph.nodes.append(
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "kinds", *weights, *norm, "mask"],
            ["embeddings", "lengths"],
            domain=MICROSOFT,
            epsilon=EPSILON,
        )
    )
    return "embeddings"


def _layer(graph: Graph, x: str, name: str) -> str:
    parts = [
        graph.add(
            "Reshape",
            [graph.linear(x, f"{name}.attention.self.{one}", WIDTH, WIDTH), "shape"],
            f"{name}.{one}",
        )
        for one in ("query", "key", "value")
    ]
    inputs = [*parts, "", "mask"]
    mixed = graph.add("MultiHeadAttention", inputs, f"{name}.mixed", MICROSOFT, num_heads=HEADS)
    mixed = graph.add("Reshape", [mixed, "flat"], f"{name}.mixed.flat")
    said = graph.linear(mixed, f"{name}.attention.output.dense", WIDTH, WIDTH)
    x = graph.add_and_norm(said, x, f"{name}.attention.output")
    inner = graph.linear(x, f"{name}.intermediate.dense", INNER, WIDTH)
    inner = graph.add("Gelu", [inner], f"{name}.gelu", MICROSOFT)
    return graph.add_and_norm(graph.linear(inner, f"{name}.output.dense", WIDTH, INNER), x, f"{name}.output")


def _mean_of_tokens(graph: Graph, tokens: str) -> None:
    """Unit length takes the place of dividing by the number of tokens."""
    graph.add("Cast", ["mask"], "mask.float", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["mask.float", "one"], "mask.row")
    graph.add("MatMul", ["mask.row", tokens], "sum.row")
    graph.add("Squeeze", ["sum.row", "one"], "sum")
    graph.add("LpNormalization", ["sum"], "vectors", axis=1, p=2)


def write(folder: Path) -> None:
    """Write the graphs, and what sentence-transformers makes of REFERENCE_TEXT."""
    from rag_chat.index.sentence_transformer import SentenceTransformerEmbedder

    for precision, file in GRAPHS.items():
        (folder / file).write_bytes(minilm(int8=precision == "int8"))
    np.save(folder / REFERENCE_FILE, SentenceTransformerEmbedder(device="cpu").embed([REFERENCE_TEXT])[0])


if __name__ == "__main__":
    from rag_chat.index.minilm import GRAPH_FOLDER

    write(GRAPH_FOLDER)
