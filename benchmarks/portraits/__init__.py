"""What is measured of the portraits model; `benchmarks/model.py` runs it."""
