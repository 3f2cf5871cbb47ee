"""The comparisons in the table of speed-ups."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """The time of fidfast for a task, compared with the fastest of some tools."""

    task: str
    #: Group of pytest-benchmark, and the tools in it.
    group: str
    tools: tuple[str, ...]
    #: What is timed in the tools.
    part: str
    #: Group and case of fidfast, if it is not the case "fidfast" of the same group.
    fidfast: tuple[str, str] | None = None
    #: How many times the task takes the time of the case of the tool.
    times: int = 1


EIGENVALUES = ("torch-fidelity", "torchmetrics")
FOLDERS = "folders to a number"
SUBSETS = "kernel distance of 100 subsets"

CLAIMS = (
    Claim("distance of two covariances", "distance", ("pytorch-fid",), "SciPy sqrtm"),
    Claim("the same", "distance", EIGENVALUES, "eigenvalues of the product"),
    Claim(
        "the same, with the cached factor of the reference",
        "distance",
        EIGENVALUES,
        "eigenvalues of the product",
        ("distance, cached factor", "fidfast"),
    ),
    Claim("distance from features, 2 x 10,000 rows", "distance from features", ("pytorch-fid",), "functions"),
    Claim("error bar and bias of 2 x 10,000 rows", "estimate", ("fidfast.fid",), "the distance alone"),
    Claim(
        "extrapolation over 15 sizes",
        "extrapolation over 15 sizes",
        ("np.cov and sqrtm",),
        "15 times one of mean size",
        times=15,
    ),
    Claim("updates with 100 rows of float32", "200 updates with 100 rows", ("torchmetrics",), "update"),
    Claim("moments of 1,000,000 rows in 2 processes", "moments of 1,000,000 rows", ("one process",), "all cores"),
    *(
        Claim(
            f"moments of a Ray dataset, {shape}",
            f"moments of a Ray dataset, {shape}",
            ("one process",),
            "the same blocks",
        )
        for shape in ("1,000,000 x 512", "250,000 x 2048")
    ),
    Claim("loss of 64 rows, forward and backward", "loss at batch 64", ("eigvals and autograd",), "torch.linalg"),
    Claim(
        "KID of 2 x 10,000 rows, all pairs",
        "kernel distance of all rows",
        ("torch-fidelity", "torchmetrics"),
        "function",
    ),
    Claim(
        "KID of 100 subsets, same result",
        SUBSETS,
        ("torch-fidelity",),
        "function",
        (SUBSETS, "fidfast like torch-fidelity"),
    ),
    Claim(
        "KID of 100 subsets, same result", SUBSETS, ("torchmetrics",), "metric", (SUBSETS, "fidfast like torchmetrics")
    ),
    Claim("precision and recall of 2 x 10,000 rows", "precision and recall", ("torch-fidelity",), "functions"),
    Claim("precision, recall, density and coverage", "precision, recall, density and coverage", ("prdc",), "function"),
    Claim("MiFID of 2 x 10,000 rows", "MiFID", ("torchmetrics",), "functions"),
    Claim("6-grams of 6 MB of text", "6-grams of 6 MB of text", ("collections.Counter",), "slices"),
    Claim(
        "distance of two folders of images, same result",
        FOLDERS,
        ("pytorch-fid",),
        "command",
        (FOLDERS, "fidfast like pytorch-fid"),
    ),
    Claim("the same", FOLDERS, ("torch-fidelity",), "calculate_metrics", (FOLDERS, "fidfast like torch-fidelity")),
    Claim("the same in bfloat16", FOLDERS, ("pytorch-fid",), "command", (FOLDERS, "fidfast bfloat16")),
    Claim(
        "five numbers of ADM's evaluator, 2 x 2,000 images",
        "five numbers of 2 x 2,000 images",
        ("features alone",),
        "features_of_images",
    ),
)


def lines(seconds: dict[tuple[str, str], float]) -> list[dict[str, str | float]]:
    """One line for each claim whose cases were all timed."""
    table: list[dict[str, str | float]] = []
    for claim in CLAIMS:
        fidfast = claim.fidfast or (claim.group, "fidfast")
        if not {fidfast, *((claim.group, tool) for tool in claim.tools)} <= set(seconds):
            continue
        peer = min(claim.tools, key=lambda tool: seconds[claim.group, tool])
        tool_seconds = claim.times * seconds[claim.group, peer]
        table.append(
            {
                "task": claim.task,
                "tool": f"{peer} ({claim.part})",
                "tool_s": tool_seconds,
                "fidfast_s": seconds[fidfast],
                "speed_up": tool_seconds / seconds[fidfast],
            }
        )
    return table
