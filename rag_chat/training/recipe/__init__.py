"""The training data of the packaged reader, made from public corpora by one seeded command.

    python -m rag_chat.training.recipe DATA OUT

DATA is a folder that holds the public corpora (their names are those of the functions in `corpora.py`; what
is absent is left out), OUT gets `cloze.jsonl`, `reading.jsonl` and `replay.jsonl`: dialogues whose replies
carry their passages, so that `rag-chat train` reads them like any other.

An eighth of every question and dialogue corpus is set aside by article, dialogue or document
(`exercises.set_aside`) and never written; `benchmarks/reading.py` measures on it.
"""
