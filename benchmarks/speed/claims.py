"""What is claimed to be faster than what: the lines of the table."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """Our time for a piece of work, against the fastest of some tools'."""

    work: str
    #: Group of pytest-benchmark, and the tools in it.
    group: str
    tools: tuple[str, ...]
    #: What of the tools is timed.
    of_theirs: str
    #: Ours, where it is not the case "fidfast" of the same group.
    ours: tuple[str, str] | None = None
    #: How often the case of theirs makes up the work.
    times: int = 1


EIGENVALUES = ("torch-fidelity", "torchmetrics")
FOLDERS = "folders to a number"
SUBSETS = "kernel distance of 100 subsets"

CLAIMS = (
    Claim("distance of two covariances", "distance", ("pytorch-fid",), "SciPy sqrtm"),
    Claim("the same", "distance", EIGENVALUES, "eigenvalues of the product"),
    Claim(
        "the same, the reference's factor kept",
        "distance",
        EIGENVALUES,
        "eigenvalues of the product",
        ("distance, reference kept", "fidfast"),
    ),
    Claim("features of 2 x 10,000 rows to a distance", "features to distance", ("pytorch-fid",), "functions"),
    Claim("error bar and bias of 2 x 10,000 rows", "estimate", ("fidfast.fid",), "the distance alone"),
    Claim(
        "extrapolation over 15 sizes",
        "extrapolation over 15 sizes",
        ("np.cov and sqrtm",),
        "15 times one of mean size",
        times=15,
    ),
    Claim("updates of 100 rows of float32", "200 updates of 100 rows", ("torchmetrics",), "update"),
    Claim("loss of 64 rows, forward and backward", "loss at batch 64", ("eigvals and autograd",), "torch.linalg"),
    Claim(
        "KID of 2 x 10,000 rows, all pairs",
        "kernel distance of all rows",
        ("torch-fidelity", "torchmetrics"),
        "function",
    ),
    Claim(
        "KID of 100 subsets, the same",
        SUBSETS,
        ("torch-fidelity",),
        "function",
        (SUBSETS, "fidfast like torch-fidelity"),
    ),
    Claim("KID of 100 subsets, the same", SUBSETS, ("torchmetrics",), "metric", (SUBSETS, "fidfast like torchmetrics")),
    Claim("precision and recall of 2 x 10,000 rows", "precision and recall", ("torch-fidelity",), "functions"),
    Claim("precision, recall, density and coverage", "precision, recall, density and coverage", ("prdc",), "function"),
    Claim("MiFID of 2 x 10,000 rows", "MiFID", ("torchmetrics",), "functions"),
    Claim("6-grams of 6 MB of text", "6-grams of 6 MB of text", ("collections.Counter",), "slices"),
    Claim(
        "two folders of images to the same number",
        FOLDERS,
        ("pytorch-fid",),
        "command",
        (FOLDERS, "fidfast like pytorch-fid"),
    ),
    Claim("the same", FOLDERS, ("torch-fidelity",), "calculate_metrics", (FOLDERS, "fidfast like torch-fidelity")),
    Claim("the same in bfloat16", FOLDERS, ("pytorch-fid",), "command", (FOLDERS, "fidfast bfloat16")),
)


def lines(seconds: dict[tuple[str, str], float]) -> list[dict[str, str | float]]:
    """One line for each claim of which all cases were timed."""
    table: list[dict[str, str | float]] = []
    for claim in CLAIMS:
        ours = claim.ours or (claim.group, "fidfast")
        if not {ours, *((claim.group, tool) for tool in claim.tools)} <= set(seconds):
            continue
        peer = min(claim.tools, key=lambda tool: seconds[claim.group, tool])
        theirs = claim.times * seconds[claim.group, peer]
        table.append(
            {
                "work": claim.work,
                "against": f"{peer} ({claim.of_theirs})",
                "theirs_s": theirs,
                "ours_s": seconds[ours],
                "ratio": theirs / seconds[ours],
            }
        )
    return table
