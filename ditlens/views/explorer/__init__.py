"""The explorer: linked views of captured hidden states, of the picture, and of what the model does with them."""
