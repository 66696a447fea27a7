"""What checks the annotations of ditlens while the tests run (`--jaxtyping-packages` in pyproject.toml)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Checks arguments and results of every call; an int may stand for a float."""
