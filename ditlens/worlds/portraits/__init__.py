"""The portraits world: attributes with exact ground truth, their renderer, captions and oracle."""
