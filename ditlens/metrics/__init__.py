"""Metrics on tensors and numbers: pictures outside a mask, continuous edits, intervals."""
