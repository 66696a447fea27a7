"""Extract, manipulate, sample: editing through the text and image space of a diffusion transformer."""
