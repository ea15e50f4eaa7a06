"""The index on disk: embedding, FAISS, and the SQLite database that is its single commit point."""
