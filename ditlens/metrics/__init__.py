"""Metrics on tensors and numbers: images outside a mask, continuous edits, statistics."""
