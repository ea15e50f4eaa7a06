"""Your own web app with an assistant in it: uvicorn examples.fastapi_app:app

The index comes from: rag-chat index build corpora/topics -o indexes/demo
"""

import os

from fastapi import FastAPI

from rag_chat import Assistant, Index

index = Index.open(os.environ.get("RAG_CHAT_INDEX", "indexes/demo"))
assistant = Assistant(index, os.environ.get("RAG_CHAT_MODEL", "reader"))
app = FastAPI()


@app.get("/ask")
def ask(question: str) -> dict[str, object]:
    answer = assistant.ask(question)
    return {"answer": answer.text, "sources": [citation.source for citation in answer.citations]}
