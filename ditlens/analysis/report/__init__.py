"""The report: what a model says to the three findings of the paper."""
