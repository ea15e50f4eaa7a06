"""Finding passages: dense, lexical, and both fused."""
