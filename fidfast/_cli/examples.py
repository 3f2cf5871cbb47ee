"""The examples at the end of ``fidfast COMMAND --help``."""

from __future__ import annotations

__all__ = ["EXAMPLES", "epilog_of"]

#: By command: command lines, and what each does.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "fid": (
        ("fidfast fid samples/ photos.zip", "FID of two sets of images"),
        ("fidfast fid samples.npy reference.npz --estimate", "without bias, with an error bar"),
        ("fidfast fid samples/ reference.npz --like clean-fid", "the number of another tool"),
    ),
    "evaluate": (
        ("fidfast evaluate samples/ photos/", "Inception score, FID, sFID, precision and recall"),
        ("fidfast evaluate samples/ photos/ --metrics fid,kid,fd-dinov2 --estimate", "with standard errors"),
        ("fidfast evaluate features.npy --metrics vendi", "a metric without a reference"),
    ),
    "report": (
        ("fidfast report samples/ photos/ --html report.html", "a page with plots and the worst images"),
        ("fidfast report samples.npy reference.npy --no-pairs", "quickly, for many samples"),
    ),
    "stats": (
        ("fidfast stats photos/ reference.npz", "for many comparisons with one reference"),
        ("fidfast stats photos/ part3.moments.npz --shard 3/64", "one of 64 jobs; then fidfast merge"),
        ("fidfast stats photos/ both.npz --extractors inception,inception-spatial", "of two networks"),
    ),
    "merge": (
        ("fidfast merge part*.moments.npz -o reference.npz", "the statistics of all parts"),
        ("fidfast merge parts/ -o all.moments.npz", "moments, which can be merged again"),
    ),
    "info": (
        ("fidfast info reference.npz", "dimension, number of samples, network"),
        ("fidfast info photos.zip --json", "number, sizes and modes of the images"),
    ),
    "cache": (
        ("fidfast cache", "show what it holds"),
        ("fidfast cache --older-than 30 --max-size 2GB", "remove what was not used for 30 days, then down to 2 GB"),
    ),
    "doctor": (
        ("fidfast doctor", "print the description"),
        ("fidfast doctor --json > environment.json", "write it to a file"),
    ),
    "completion": (
        ("fidfast completion bash > ~/.local/share/bash-completion/completions/fidfast", "for bash-completion 2"),
        ("fidfast completion zsh > ~/.zfunc/_fidfast", "for a folder of fpath"),
        ("fidfast completion fish > ~/.config/fish/completions/fidfast.fish", "for fish"),
    ),
    "demo": (
        ("fidfast demo --features", "in seconds, with NumPy and SciPy only"),
        ("fidfast demo", "on images, with plots in the current folder"),
        ("fidfast demo --out plots/demo.pdf", "with plots in another format and folder"),
    ),
}


def epilog_of(command: str) -> str:
    """The examples of a command as text, each below its explanation."""
    lines = [f"  # {meaning}\n  {line}" for line, meaning in EXAMPLES[command]]
    return "\n".join(["examples:", *lines])
