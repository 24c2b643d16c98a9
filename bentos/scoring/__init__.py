"""The hot core: who answers, traffic split, micro-batches, explanations."""
