"""A LangChain agent that looks things up in your index, with any chat model that calls tools.

python examples/langchain_agent.py ollama:qwen3 "When is the northern lights season?"
"""

import sys

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import create_retriever_tool

from rag_chat import Index
from rag_chat.langchain import IndexRetriever


def answer(model: str | BaseChatModel, question: str, index: Index) -> str:
    """Let the model search the index as often as it likes, and return what it says in the end."""
    documents = create_retriever_tool(
        IndexRetriever(index=index, k=3), "search_documents", "Search my documents for a question."
    )
    agent = create_agent(model, [documents], system_prompt="Answer from what search_documents finds.")
    state = agent.invoke({"messages": [{"role": "user", "content": question}]})
    return str(state["messages"][-1].text)


if __name__ == "__main__":
    with Index.open("indexes/demo") as opened:
        print(answer(sys.argv[1], sys.argv[2], opened))
