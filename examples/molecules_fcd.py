"""Fréchet ChemNet distance (FCD) of two files of SMILES, one molecule at the beginning of each line.

pip install fidfast fcd
python molecules_fcd.py samples.smi reference.smi

Preuer et al., "Fréchet ChemNet Distance" (2018): the last 512 units of ChemNet, whose weights are in the package fcd.
"""

import argparse

import numpy as np

import fidfast

try:
    import fcd
except ImportError as error:
    raise SystemExit(f"molecules_fcd.py needs fcd: pip install fcd ({error})") from None


def molecules(path: str) -> list[str]:
    """The canonical SMILES of a file, without invalid ones."""
    with open(path, encoding="utf-8") as file:
        found = fcd.canonical_smiles([line.split()[0] for line in file if line.strip()])
    valid = [smiles for smiles in found if smiles is not None]
    if len(valid) < 2:
        raise ValueError(f"{path} has {len(valid)} valid SMILES, needs at least 2")
    return valid


def features(smiles: list[str], model) -> np.ndarray:
    """(n, 512) float32."""
    return fcd.get_predictions(model, smiles, n_jobs=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", help="SMILES of the generated molecules")
    parser.add_argument("reference", help="SMILES of the training or test set")
    given = parser.parse_args()
    smiles = [molecules(path) for path in (given.samples, given.reference)]
    model = fcd.load_ref_model()
    samples, reference = (features(side, model) for side in smiles)
    print(f"FCD {fidfast.fid(samples, reference):.8g}")  # as fcd.get_fcd
    print(f"without bias: {fidfast.estimate(samples, reference)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"molecules_fcd.py: {error}") from None
