"""The command line for a checkout: `python cli.py index build corpora/topics -o indexes/demo`."""

from __future__ import annotations

from rag_chat.commands import main

if __name__ == "__main__":
    main()
