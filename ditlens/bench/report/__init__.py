"""The report of a benchmark: one page with tables, curves and images, and contact sheets."""
