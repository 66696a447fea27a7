"""Benchmarks of editing methods: suites, the runner, the report page and human ratings."""
