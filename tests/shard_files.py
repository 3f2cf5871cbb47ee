"""Writers of files of features in every format that is read in slices."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from safetensors.numpy import save_file


def _lists(rows, kind):
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))
    return pa.array(list(rows), {"lists": pa.list_, "large": pa.large_list}[kind](pa.from_numpy_dtype(rows.dtype)))


def _parquet(kind):
    def write(path, rows):
        names = pa.array([f"{i}.png" for i in range(len(rows))])
        table = pa.table({"name": names, "features": _lists(rows, kind)})
        pq.write_table(table, path, row_group_size=max(1, len(rows) // 3), data_page_size=1000)

    return write


def write_columns(path, rows, prefix="f"):
    """A column for each feature, beside labels."""
    columns = {f"{prefix}{j}": rows[:, j] for j in range(rows.shape[1])}
    pq.write_table(pa.table({"label": np.arange(len(rows)), **columns}), path, row_group_size=max(1, len(rows) // 2))


def _zarr(**options):
    def write(path, rows):
        if options.get("zipped"):
            store = zarr.storage.ZipStore(path, mode="w")
            zarr.create_array(store, data=rows, chunks=(7, rows.shape[1]))
            store.close()
        else:
            zarr.create_array(path, data=rows, **options)

    return write


def _group(path, rows):
    group = zarr.create_group(path, attributes={"extractor": "name"})
    group.create_array("features", data=rows, chunks=(9, 3))
    group.create_array("labels", data=np.arange(len(rows)))


def _bfloat16(path, rows):
    import torch
    from safetensors.torch import save_file as save_tensors

    save_tensors({"features": torch.from_numpy(rows).bfloat16()}, path)


#: Functions of a path and (n, dim) rows, by name; the suffix follows the last space.
WRITERS = {
    "array .npy": np.save,
    "Fortran order .npy": lambda path, rows: np.save(path, np.asfortranarray(rows)),
    "foreign byte order .npy": lambda path, rows: np.save(path, rows.astype(rows.dtype.newbyteorder(">"))),
    "pooled maps .npy": lambda path, rows: np.save(path, rows[:, :, None, None]),
    "stored .npz": lambda path, rows: np.savez(path, features=rows, extractor="name"),
    "compressed .npz": lambda path, rows: np.savez_compressed(path, features=rows),
    "tensor .safetensors": lambda path, rows: save_file({"features": np.ascontiguousarray(rows)}, path),
    "lists .parquet": _parquet("lists"),
    "large lists .parquet": _parquet("large"),
    "lists of fixed size .parquet": _parquet("fixed"),
    "tensors .parquet": _parquet("tensor"),
    "columns .parquet": write_columns,
    "format 2 .zarr": _zarr(chunks=(10, 2), zarr_format=2),
    "format 3 .zarr": _zarr(chunks=(11, 5)),
    "shards .zarr": _zarr(chunks=(4, 4), shards=(16, 8)),
    "group .zarr": _group,
}

#: Those that can be one file only, or hold other numbers.
SINGLE = {"zip .zip": _zarr(zipped=True), "bfloat16 .safetensors": _bfloat16}


def write_file(folder, name, rows, stem="rows"):
    """Write rows in one file; returns its path."""
    path = folder / f"{stem}.{name.rpartition('.')[2]}"
    {**WRITERS, **SINGLE}[name](str(path), rows)
    return path


def write_shards(folder, name, parts):
    """Write each part as a file of a new folder; returns the folder."""
    folder.mkdir()
    for i, part in enumerate(parts):
        write_file(folder, name, part, f"part-{i:02d}")
    return folder
