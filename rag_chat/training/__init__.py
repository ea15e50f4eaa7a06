"""Fine-tune the reader on dialogues with the evidence they would have in service."""

from __future__ import annotations

from rag_chat.training.report import Run, TrainingReport
from rag_chat.training.run import train
from rag_chat.training.verdict import Verdict

__all__ = ["Run", "TrainingReport", "Verdict", "train"]
