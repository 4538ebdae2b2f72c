"""Two tables, one a model, joined by a sample id; the order of rows may differ."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from bap_jax._tables.arrow import compute, to_numpy
from bap_jax.audit import columns, values
from bap_jax.audit.columns import DENSE, SPARSE, Wanted
from bap_jax.audit.predictions import Part, check_distinct, correct_of, read_part
from bap_jax.audit.samples import Samples, sha256_of
from bap_jax.audit.tables import open_table
from bap_jax.audit.values import Names
from bap_jax.errors import UserError, first_of


def read_two_tables(dense_path: Path, sparse_path: Path, wanted: Wanted) -> Samples:
    """Reads one table of each model; labels and groups may be in one of them or both.

    Args:
      dense_path: of the dense model.
      sparse_path: of the compressed one.
      wanted: the columns that the user named.

    Raises:
      UserError: ids occur twice or in one table only, or the tables disagree on labels or groups.
    """
    tables = [open_table(dense_path), open_table(sparse_path)]
    id_name = _id_of_both(tables, wanted)
    both = tuple(dict.fromkeys(name for table in tables for name in table.names))
    attributes = columns.attributes(both, wanted)
    dense, sparse = (
        read_part(
            table,
            _as_far_as_there(wanted, table.names, both),
            (model,),
            tuple(name for name in attributes if name in table.names),
            id_name,
        )
        for table, model in zip(tables, (DENSE, SPARSE), strict=True)
    )
    order = _order(dense, sparse)
    sparse = _reordered(sparse, order)
    label = _same_labels(dense, sparse)
    groups = {name: values.objects(_same_groups(name, dense, sparse)) for name in attributes}
    right, of_dense = correct_of(dense, label, DENSE)
    sparse_right, of_sparse = correct_of(sparse, label, SPARSE)
    return Samples(
        right,
        sparse_right,
        groups,
        f"{dense_path} ({dense.columns}) and {sparse_path} ({sparse.columns}), joined by {id_name}",
        {str(path): sha256_of(path) for path in (dense_path, sparse_path)},
        (*of_dense, *of_sparse),
    )


def _id_of_both(tables, wanted):
    shared = [name for name in tables[0].names if name in tables[1].names]
    for table in tables:
        if wanted.id:
            columns.known(table.names, wanted.id, "id")
    name = columns.id_column(shared, wanted, needed=True)
    if name is None:
        raise UserError(
            "two files are joined by an id of the samples, as their order may differ; name its "
            f"column by --id=COLUMN; both files have {first_of(shared, 20)}."
        )
    return name


def _as_far_as_there(wanted, names, both):
    """What the user named, without a label that only the other table has."""
    if wanted.label and wanted.label not in names and wanted.label in both:
        return wanted._replace(label=None)
    return wanted


def _order(dense: Part, sparse: Part):
    """`(sample,)` for each row of the dense table the row of the sparse one, all of them."""
    assert dense.ids is not None and sparse.ids is not None
    check_distinct(dense.ids, dense.path, None)
    check_distinct(sparse.ids, sparse.path, None)
    order = compute.index_in(dense.ids, value_set=sparse.ids)
    missing = compute.is_null(order)
    others = compute.invert(compute.is_in(sparse.ids, value_set=dense.ids))
    only = [
        f"{mask.true_count} only in {path}: {first_of(ids.filter(mask).to_pylist(), 5)}"
        for path, ids, mask in (
            (dense.path, dense.ids, missing),
            (sparse.path, sparse.ids, others),
        )
        if mask.true_count
    ]
    if only:
        raise UserError(f"both files must hold the same samples; ids {'; '.join(only)}.")
    return order


def _reordered(part: Part, order: pa.Array) -> Part:
    place, rows = part.place, to_numpy(order)
    assert part.ids is not None
    return part._replace(
        place=lambda row: place(int(rows[row])),
        label=part.label and Names(part.label.ids[rows], part.label.names),
        predictions={m: Names(p.ids[rows], p.names) for m, p in part.predictions.items()},
        correct={model: right[rows] for model, right in part.correct.items()},
        groups={n: Names(g.ids[rows], g.names) for n, g in part.groups.items()},
        ids=part.ids.take(order),
    )


def _same_labels(dense: Part, sparse: Part):
    if dense.label is None or sparse.label is None:
        return dense.label or sparse.label
    _check_equal("the label", dense.label, sparse.label, dense, sparse)
    return dense.label


def _same_groups(name, dense, sparse):
    if name not in dense.groups or name not in sparse.groups:
        return dense.groups.get(name) or sparse.groups[name]
    pair = dense.groups[name], sparse.groups[name]
    _check_equal(f"the column {name!r}", *pair, dense, sparse)
    return dense.groups[name]


def _check_equal(what, first: Names, second: Names, dense: Part, sparse: Part):
    numbers = {}
    ids = [
        np.array([numbers.setdefault(values.comparable(n), len(numbers)) for n in (*names, "")])[i]
        for i, names in (first, second)
    ]
    rows = np.flatnonzero(ids[0] != ids[1])
    if len(rows):
        row = int(rows[0])
        assert dense.ids is not None  # tables are joined by their ids
        texts = [(*names, "nothing")[i[row]] for i, names in (first, second)]
        raise UserError(
            f"{what} differs between the two files in {len(rows)} of {len(ids[0])} samples; the "
            f"first is id {dense.ids[row]}: {texts[0]!r} in {dense.path}, {dense.place(row)}, and "
            f"{texts[1]!r} in {sparse.path}, {sparse.place(row)}."
        )
