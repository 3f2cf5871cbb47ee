"""Good and bad values of every kind of argument."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

import fidfast
import fidfast.torch as ft

N, DIM, CLASSES = 14, 3, 4
NAN, INF = float("nan"), float("inf")


def network(images):
    """An extractor of three features."""
    return images.mean(dim=(2, 3))


def generator(n):
    return torch.rand(n, 3, 4, 4)


def rows(rng, n=N, dim=DIM, dtype=np.float32):
    return rng.normal(size=(n, dim)).astype(dtype)


def moments(rng, blocks=1):
    made = fidfast.Moments(DIM, blocks=blocks)
    made.update(rows(rng, N))
    return made


def stats(rng):
    return moments(rng).stats()


def class_moments(rng):
    made = fidfast.ClassMoments(DIM)
    made.update(rows(rng), np.arange(N) % 2)
    return made


def counts(rng):
    made = fidfast.NgramCounts(2)
    made.update(texts(rng))
    return made


def score(rng):
    made = fidfast.InceptionScore(CLASSES, splits=2)
    made.update(rows(rng, N, CLASSES))
    return made


def texts(rng):
    return ["".join(rng.choice(list("abc "), size=rng.integers(12))) for _ in range(rng.integers(2, 6))]


def images(rng):
    return rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


def fake(_):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(N, DIM)


def closed_file(rng):
    with open(os.devnull) as file:
        pass
    return file


def strange_dlpack(_):
    class Strange:
        shape = (N, DIM)

        def __dlpack_device__(self):
            return "cpu"

        def __dlpack__(self, **_):
            raise RuntimeError("no")

    return Strange()


def strange_array(_):
    class Strange:
        shape = None

        def __array__(self, *_, **__):
            raise KeyError("no")

    return Strange()


#: Values that most arguments refuse, by name. Each is made anew, since some of them can be used once.
JUNK: dict[str, Callable] = {
    "None": lambda _: None,
    "3": lambda _: 3,
    "0": lambda _: 0,
    "-1": lambda _: -1,
    "2.5": lambda _: 2.5,
    "nan": lambda _: NAN,
    "inf": lambda _: INF,
    "True": lambda _: True,
    "2**31 - 1": lambda _: 2**31 - 1,
    "2**63": lambda _: 2**63,
    "10**400": lambda _: 10**400,
    "1j": lambda _: 1j,
    "Decimal": lambda _: Decimal("2.5"),
    "str": lambda _: "x",
    "empty str": lambda _: "",
    "bytes": lambda _: b"x",
    "null character": lambda _: "a\0b",
    "surrogate": lambda _: "a\udcffb",
    "long name": lambda _: "x" * 300,
    "object": lambda _: object(),
    "list": lambda _: [],
    "list of None": lambda _: [None],
    "ragged": lambda _: [[1.0, 2.0], [3.0]],
    "tuple": lambda _: (),
    "dict": lambda _: {},
    "dict of mu": lambda _: {"mu": 3, "sigma": "x"},
    "set": lambda _: {1.0},
    "function": lambda _: len,
    "lambda": lambda _: lambda *_, **__: 3,
    "class": lambda _: np.ndarray,
    "tensor class": lambda _: torch.Tensor,
    "generator": lambda _: (i for i in range(3)),
    "range": lambda _: range(3),
    "np.int64": lambda _: np.int64(3),
    "np.float32": lambda _: np.float32(2.5),
    "np.bool_": lambda _: np.bool_(True),
    "np.datetime64": lambda _: np.datetime64("2020-01-01"),
    "0-d": lambda _: np.array(3),
    "1-d": lambda rng: rng.normal(size=5),
    "3-d": lambda rng: rng.normal(size=(4, 3, 2)),
    "40 axes": lambda _: np.zeros((1,) * 40),
    "no rows": lambda _: np.zeros((0, DIM)),
    "one row": lambda _: np.zeros((1, DIM)),
    "no columns": lambda _: np.zeros((4, 0)),
    "wrong dim": lambda rng: rows(rng, N, DIM + 1),
    "ints": lambda rng: rng.integers(0, 9, (N, DIM)),
    "uint8": lambda rng: rng.integers(0, 9, (N, DIM), dtype=np.uint8),
    "bools": lambda rng: rng.integers(0, 2, (N, DIM)) > 0,
    "objects": lambda rng: rows(rng).astype(object),
    "strings": lambda _: np.full((N, DIM), "x"),
    "dates": lambda _: np.zeros((N, DIM), "datetime64[s]"),
    "structured": lambda _: np.zeros((N, DIM), [("a", "f4"), ("b", "i2")]),
    "void": lambda _: np.zeros((N, DIM), "V3"),
    "complex": lambda _: np.zeros((N, DIM), complex),
    "longdouble": lambda _: np.zeros((N, DIM), np.longdouble),
    "big-endian": lambda rng: rows(rng).astype(">f4"),
    "not contiguous": lambda rng: rows(rng, 2 * N, 2 * DIM)[::-2, ::2],
    "0-stride": lambda _: np.broadcast_to(np.float32(2), (N, DIM)),
    "read-only": lambda rng: np.frombuffer(rows(rng).tobytes(), np.float32).reshape(N, DIM),
    "unaligned": lambda _: np.zeros(N * DIM * 4 + 1, np.uint8)[1:].view(np.float32).reshape(N, DIM),
    "NaN": lambda rng: np.where(rows(rng) > 1, NAN, 1.0),
    "infinity": lambda rng: np.where(rows(rng) > 1, INF, 1.0),
    "huge": lambda rng: rows(rng, dtype=np.float64) * 1e300,
    "tiny": lambda rng: rows(rng, dtype=np.float64) * 1e-310,
    "zeros": lambda _: np.zeros((N, DIM)),
    "masked": lambda rng: np.ma.masked_greater(rows(rng), 0),
    "matrix": lambda rng: np.asmatrix(rows(rng)),
    "scipy sparse": lambda rng: scipy.sparse.csr_matrix(rows(rng)),
    "scipy sparse array": lambda rng: scipy.sparse.coo_array(rows(rng)),
    "tensor": lambda rng: torch.from_numpy(rows(rng)),
    "0-d tensor": lambda _: torch.tensor(2.0),
    "sparse tensor": lambda rng: torch.from_numpy(rows(rng)).to_sparse(),
    "sparse csr": lambda rng: torch.from_numpy(rows(rng)).to_sparse_csr(),
    "mkldnn": lambda rng: torch.from_numpy(rows(rng)).to_mkldnn(),
    "conjugate": lambda _: torch.zeros(N, DIM, dtype=torch.complex64).conj(),
    "negative bit": lambda _: torch.ones(N, DIM, dtype=torch.complex64).conj().imag,
    "quantized": lambda _: torch.quantize_per_tensor(torch.rand(N, DIM), 0.1, 0, torch.qint8),
    "nested": lambda _: torch.nested.nested_tensor([torch.zeros(N, DIM), torch.zeros(2, DIM)]),
    "jagged": lambda _: torch.nested.nested_tensor([torch.zeros(N, DIM)], layout=torch.jagged),
    "meta": lambda _: torch.zeros(N, DIM, device="meta"),
    "meta scalar": lambda _: torch.tensor(3, device="meta"),
    "fake": fake,
    "gradient": lambda _: torch.zeros(N, DIM, requires_grad=True),
    "parameter": lambda _: torch.nn.Parameter(torch.zeros(N, DIM)),
    "float8": lambda _: torch.zeros(N, DIM).to(torch.float8_e4m3fn),
    "bfloat16": lambda _: torch.zeros(N, DIM, dtype=torch.bfloat16),
    "int tensor": lambda _: torch.zeros(N, DIM, dtype=torch.int32),
    "4-d tensor": lambda _: torch.zeros(4, 3, 2, 2),
    "pooled": lambda _: torch.rand(N, DIM, 1, 1),
    "strange dlpack": strange_dlpack,
    "strange array": strange_array,
    "torch dtype": lambda _: torch.float32,
    "torch device": lambda _: torch.device("cpu"),
    "module": lambda _: torch.nn.Identity(),
    "closed file": closed_file,
    "missing path": lambda _: Path("missing.npy"),
    "folder": lambda _: Path(os.curdir),
    "device file": lambda _: os.devnull,
    "Moments": moments,
    "empty Moments": lambda _: fidfast.Moments(DIM),
    "GaussianStats": stats,
    "ClassMoments": class_moments,
    "NgramCounts": counts,
    "InceptionScore": score,
    "result": lambda rng: fidfast.kid(rows(rng), rows(rng)),
    "Extractor": lambda _: ft.as_extractor(network),
    "ImageOptions": lambda _: ft.ImageOptions(),
}


def make_junk(name: str, rng: np.random.Generator) -> object:
    """A new value of `JUNK`; torch warns of some kinds of tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return JUNK[name](rng)


#: Junk that no numeric array accepts.
NOT_ARRAYS = ("object", "set", "function", "class", "generator", "3", "bytes", "closed file", "NgramCounts")
NOT_DENSE = ("scipy sparse", "sparse tensor", "quantized", "nested", "meta", "fake")
NOT_FEATURES = (*NOT_ARRAYS, *NOT_DENSE, "3-d", "1-d", "ints", "objects", "strings", "structured", "complex",
                "conjugate", "NaN", "infinity", "float8", "longdouble", "no columns", "strange dlpack", "strange array",
                "masked")  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Values of one kind of argument."""

    #: Functions of a random generator; each gives a value that is accepted.
    good: tuple[Callable, ...]
    #: Names in `JUNK` that are always refused.
    bad: tuple[str, ...]
    #: Names in `JUNK` that are accepted, but take too long.
    slow: tuple[str, ...] = ()
    #: Whether None is accepted.
    optional: bool = False

    def without(self, *names: str) -> "Kind":
        """The kind without these bad values."""
        return replace(self, bad=tuple(name for name in self.bad if name not in names))

    @property
    def refused(self) -> tuple[str, ...]:
        return self.bad if self.optional or "None" in self.bad else ("None", *self.bad)


def foreign(*values) -> Kind:
    """An argument of another package, or one whose content is not checked: it gets no junk."""
    return Kind(tuple((lambda _, value=value: value) for value in values), (), slow=tuple(JUNK), optional=True)


def integer(least: int, most: int, **options) -> Kind:
    bad = ("2.5", "str", "list", "True", "nan", "object", "2**63", "1-d", "meta scalar")
    return Kind((lambda rng: int(rng.integers(least, most + 1)), lambda _: np.int64(least)),
                (*bad, "-1") if least >= 0 else bad, **options)  # fmt: skip


def real(*values: float, bad: tuple[str, ...] = (), **options) -> Kind:
    return Kind(tuple((lambda _, value=value: value) for value in values),
                ("str", "list", "nan", "1j", "object", "True", "np.datetime64", *bad), **options)  # fmt: skip


def choice(*values, **options) -> Kind:
    return Kind(tuple((lambda _, value=value: value) for value in values),
                ("str", "3", "list", "object", "tensor", "empty str"), **options)  # fmt: skip


def no_network(*_, **__):
    """For ``socket.getaddrinfo``, so that nothing is downloaded."""
    raise OSError("the fuzz has no network")


BOOL = Kind((lambda _: True, lambda _: False, lambda _: np.True_), ("str", "3", "list", "2.5", "object", "tensor"))
TEXT = Kind((lambda _: "name",), ("3", "bytes", "list", "object", "True"))
#: Names of extractors and similar; None is accepted.
NAME = replace(TEXT, optional=True)
FEATURES = Kind(
    (rows, lambda rng: rows(rng, dtype=np.float64), lambda rng: torch.from_numpy(rows(rng)),
     lambda rng: torch.from_numpy(rows(rng)).half(), lambda rng: torch.from_numpy(rows(rng)).requires_grad_(),
     lambda rng: rows(rng).astype(">f8"), lambda rng: rows(rng)[:, :, None, None]),
    NOT_FEATURES,
)  # fmt: skip
SOURCE = replace(FEATURES, good=(*FEATURES.good[:3], moments, stats, lambda rng: moments(rng, 3)))
PATH = Kind((), ("3", "bytes", "list", "object", "null character", "True", "closed file"))
