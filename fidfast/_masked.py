"""Refusal of masked arrays, since conversion to a plain array drops the mask."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["require_unmasked"]


def require_unmasked(array: Any, name: str) -> None:
    """Raise ValueError if values of an array or tensor are masked; masks without masked values are accepted.

    Parameters
    ----------
    array
        Masked arrays are those with an attribute `mask` of bools (`numpy.ma`, `astropy.utils.masked`), and the masked
        tensors of torch; also in a list or tuple. Anything else is accepted.
    name : str
        Of the argument, for the message.
    """
    if isinstance(array, (list, tuple)):
        for item in array:
            if hasattr(item, "mask") or hasattr(item, "get_mask"):
                require_unmasked(item, name)
        return
    mask = getattr(array, "mask", None)
    if callable(getattr(array, "get_mask", None)):  # of torch; True are the valid values
        mask = ~array.get_mask().detach().cpu().numpy()
    if not isinstance(mask, (np.ndarray, np.bool_)):
        return
    if mask.dtype.names:  # a bool for each field of a record
        mask = np.ascontiguousarray(mask).view(np.bool_)
    if mask.dtype == np.bool_ and mask.any():
        raise ValueError(
            f"{name}: {np.count_nonzero(mask):,} of {mask.size:,} values are masked: pass the rows without masked "
            "values, or replace them with filled(value)"
        )
