"""A conversation in the terminal, over a file or a folder: python examples/terminal.py corpora/topics

A second argument names the model, as in -m of the command line.
"""

import sys
import tempfile

from rag_chat import Assistant, Index

with (
    tempfile.TemporaryDirectory() as folder,
    Index.build(sys.argv[1:2], folder) as index,
    Assistant(index, *sys.argv[2:3]).session() as chat,
):
    print("Ask something; an empty line ends it.")
    while question := input("> ").strip():
        for piece in chat.stream(question):
            print(piece, end="", flush=True)
        print()
        for citation in chat.last.citations if chat.last else ():
            print(f'  [{citation.source}] "{citation.quote}"')
