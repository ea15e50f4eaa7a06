"""The visible text of an HTML page, with its headings as Markdown so that chunking keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rag_chat.corpus.sources import Fault
from rag_chat.errors import require

INVISIBLE = (
    "script, style, noscript, template, head, svg, iframe, object, select, "
    "[hidden], [style*='display:none'], [style*='display: none']"
)
INLINE_TAGS = (
    "a abbr b bdi bdo cite code data del dfn em font i img ins kbd label mark q s samp small span "
    "strong sub sup time tt u var wbr -comment"
)
INLINE = frozenset(INLINE_TAGS.split())
PREFIXES = {"li": "- ", **{f"h{level}": f"{'#' * level} " for level in range(1, 7)}}


def read_page(markup: str) -> tuple[str, str]:
    """Return (title, visible text) of a page; blank lines part the blocks of the text."""
    lexbor = require("selectolax.lexbor", "html")
    try:
        tree = lexbor.LexborHTMLParser(markup)
    except (lexbor.SelectolaxError, ValueError) as error:
        raise Fault(f"not readable as HTML: {error}") from error
    title = tree.css_first("title")
    name = " ".join(title.text().split()) if title else ""
    for node in tree.css(INVISIBLE):
        node.decompose()
    layout = _Layout()
    for node, entering in _walk(tree.root):
        layout.add(node, entering)
    layout.end_block()
    return name, "\n\n".join(layout.blocks)


class _Layout:
    """The blocks of a page so far, and the pieces of the one being filled."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.pieces: list[str] = []
        self.prefix = ""
        self.verbatim = False

    def add(self, node: Any, entering: bool) -> None:
        if node.is_text_node:
            if entering:
                text = node.text_content
                self.pieces.append(text if self.verbatim else re.sub(r"\s+", " ", text))
        elif node.tag == "br":
            self.pieces.extend("\n" if entering else "")
        elif node.tag in ("td", "th"):
            self.pieces.extend([" | "] if entering and self.pieces else [])
        elif node.tag not in INLINE:
            self.end_block()
            self.prefix = PREFIXES.get(node.tag, self.prefix) if entering else ""
            self.verbatim = entering and node.tag == "pre"

    def end_block(self) -> None:
        joined = "".join(self.pieces)
        self.pieces.clear()
        if self.verbatim and joined.strip():
            self.blocks.append(f"```\n{joined.strip()}\n```")  # a fence: "# x" in it is no heading
            return
        lines = [" ".join(line.split()) for line in joined.split("\n")]
        if self.prefix.startswith("#"):
            lines = [" ".join(lines)]
        if text := "\n".join(line for line in lines if line):
            self.blocks.append(self.prefix + text)
            self.prefix = ""


def _walk(root: Any) -> Iterator[tuple[Any, bool]]:
    """Yield each node on entering and on leaving it; without recursion, pages can be deep."""
    node, entering = root, True
    while True:
        yield node, entering
        if entering and node.child is not None:
            node = node.child
        elif entering:
            entering = False
        elif node == root:
            return
        elif node.next is not None:
            node, entering = node.next, True
        else:
            node = node.parent
