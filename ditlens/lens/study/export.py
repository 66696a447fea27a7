"""A study as tables and arrays of other libraries: pandas, xarray, Parquet. `Study` has them as methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditlens.errors import MissingDependencyError
from ditlens.files import new_file, writing_whole
from ditlens.lens.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas
    import pyarrow
    import xarray

SIZE = 64
"""Items that are written at a time."""


def to_pandas(study: Any) -> pandas.DataFrame:
    """One row for each item: the study's columns, with the item (number of the prompt, seed) as the index."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _missing("pandas", "analysis", error) from error
    index = pandas.MultiIndex.from_tuples(study.items, names=["prompt_number", "seed"])
    columns = {name: values for name, values in study.columns.items() if name not in index.names}
    return pandas.DataFrame(columns, index=index)


def to_xarray(study: Any, site: str, **choice: Any) -> xarray.DataArray:
    """The values of a site, (step, item, token, width), with the study's columns as coordinates of the items."""
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise _missing("xarray", "export", error) from error
    part = study.read(site, **choice)
    items = part.labels.get("item", study.items)
    places = [study.items.index(item) for item in items]
    coordinates: dict[str, Any] = {name: list(each) for name, each in part.labels.items() if name != "item"}
    coordinates |= {
        name: ("item", [values[place] for place in places]) for name, values in study.columns.items()
    }
    values = part.tensor.float() if part.tensor.element_size() < 4 else part.tensor
    return xarray.DataArray(values.numpy(), coordinates, list(part.labels), name=site)


def to_parquet(study: Any, path: str | Path, overwrite: bool = False) -> Path:
    """Write a study as one Parquet file, `SIZE` items at a time.

    Each row holds one token of one site, step and item: ``site``, ``step``, ``pass``, ``token``, the columns of the
    study, and ``values``, a list of float32.
    """
    file = new_file(path, ".parquet", overwrite)
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise _missing("pyarrow", "export", error) from error
    with writing_whole(file) as partial:
        writer = None
        for table in _tables(study, pyarrow):
            writer = writer or parquet.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return file


def _tables(study: Any, arrow: Any) -> Iterator[pyarrow.Table]:
    """The rows of each part."""
    types = {
        name: arrow.array(values).type for name, values in study.columns.items()
    }  # of None alone unknown
    for part in study.parts(SIZE):
        values = part.values.float() if part.values.ndim == 3 else part.values.float().unsqueeze(1)
        kept = study.tokens.get(Site.parse(part.site).stream or "")
        count, width = values.shape[1:]
        rows = [row for row in part.rows for _ in range(count)]
        flat = arrow.array(values.reshape(-1).numpy())
        named = {name: [each[row] for row in rows] for name, each in study.columns.items()}
        yield arrow.table(
            {
                "site": [part.site] * len(rows), "step": [part.step] * len(rows), "pass": [part.pass_] * len(rows),
                "token": (kept or list(range(count))) * len(part.rows),
                **{name: arrow.array(each, types[name]) for name, each in named.items()},
                "values": arrow.FixedSizeListArray.from_arrays(flat, width),
            }
        )  # fmt: skip


def _missing(package: str, extra: str, error: Exception) -> MissingDependencyError:
    return MissingDependencyError(f"This needs {package}: {error}. Type: pip install 'ditlens[{extra}]'.")
