# make demo   from nothing to three answers with their sources
# make test   everything a change must pass
# make clean  remove what the other two made

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
INDEX := indexes/demo

.PHONY: demo test clean

# A conversation: a question, one that only makes sense after it, and one the corpora cannot answer.
# It is kept beside the index, not among the user's own conversations.
demo: $(INDEX)/passages.sqlite
	@printf '%s\n' 'When is the northern lights season?' 'And why not in summer?' 'What is the price of gold right now?' /quit \
		| RAG_CHAT_HOME=$(INDEX)-home $(PY) cli.py chat -i $(INDEX)

$(INDEX)/passages.sqlite: $(VENV)/.demo-installed $(shell find corpora/topics corpora/dialogues -type f)
	$(PY) cli.py index build corpora/topics corpora/dialogues -o $(INDEX)
	@touch $@

test: $(VENV)/.test-installed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest

clean:
	rm -rf .venv build dist rag_chat.egg-info $(INDEX) $(INDEX)-home
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find rag_chat tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: it is by far the largest, and a later step that fails does not fetch it again.
$(VENV)/.torch-installed: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install torch==2.13.0 -c constraints.txt
	@touch $@

$(VENV)/.demo-installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	$(PY) -m pip install -e '.[all]' -c constraints.txt
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	$(PY) -m pip install -e '.[test]' -c constraints.txt
	@touch $@
