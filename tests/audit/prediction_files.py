"""Small files of predictions, for the tests of readers and of the command."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet


def write_table(path: Path, **columns) -> Path:
    """Writes columns in the format that the name says: .csv, .tsv, .parquet or .npz."""
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(column) for name, column in columns.items()})
        return path
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pyarrow.csv.write_csv(table, path, options)
    return path


def write_text(path: Path, text: str) -> Path:
    """Writes lines as they are."""
    path.write_text(text, encoding="utf-8")
    return path
