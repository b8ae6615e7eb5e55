"""Names folded into keys: the two families of random streams, which never mix.

Who a patient is depends on the key and the patient alone, and so is the same in every arm; the
reaction noise depends on the arm and the cell type too. Both are reached by name, so neither the
order of arms nor the number of covariates matters.
"""

import hashlib
from typing import Any

import jax
import numpy as np

from engine.errors import InvalidInput

IDENTITY = "patient identity"
NOISE = "reaction noise"


def name_word(name: str) -> int:
    """32 bits of a name: the first four bytes of its SHA-256, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def named_key(key: Any, *names: str) -> Any:
    """A key of its own for a path of names.

    Args:
        key: `jax.random.key(seed)`.
        names: folded in one after the other, so ("a", "b") differs from ("ab",) and ("b", "a").

    Returns:
        A key, independent of the keys of other names.

    Raises:
        InvalidInput: something that is not a name.

    Example:
        >>> import jax
        >>> one = named_key(jax.random.key(0), "reaction noise", "placebo", "Treg")
        >>> bool(one == named_key(jax.random.key(0), "reaction noise", "placebo", "Th"))
        False
    """
    for name in names:
        if not isinstance(name, str):
            raise InvalidInput(f"name {name!r} of a random stream is not text; give a string")
        key = jax.random.fold_in(key, np.uint32(name_word(name)))
    return key


def identity_key(key: Any, variable: str) -> Any:
    """The key from which patients draw one of the numbers that make them who they are."""
    return named_key(key, IDENTITY, variable)


def noise_key(key: Any, arm: str, cell_type: str) -> Any:
    """The key of the reaction noise of one arm and cell type; give it to `simulate`."""
    return named_key(key, NOISE, arm, cell_type)
