"""Fine-tune the reader on dialogues with the evidence they would have in service."""

from __future__ import annotations

from rag_chat.training.finetune import TrainingReport
from rag_chat.training.run import train

__all__ = ["TrainingReport", "train"]
