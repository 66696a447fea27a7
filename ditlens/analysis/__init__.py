"""Analysis: decompose, probe, patch and steer hidden states. Numbers only; figures are in `ditlens.views`."""
