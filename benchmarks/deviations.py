"""How far the moments of one ensemble lie from those of another, with sampling errors.

A deviation is judged twice: in standard errors, over every species and save time; and in percent,
over those entries whose sampling error is small enough to see a percent or so (`SEEN_MEAN`,
`SEEN_VARIANCE`). The worst of many entries is noise to some extent: `beyond_noise` is what is left
of it after `SIGMAS` standard errors, 0 where noise explains all.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

Array = np.ndarray
# Largest relative standard errors of entries that are judged in percent.
SEEN_MEAN, SEEN_VARIANCE = 0.005, 0.03
SIGMAS = 4.0


def compared(
    record: dict[str, Any], truth: dict[str, Any], smooth: Collection[str] = ()
) -> dict[str, Any]:
    """Worst deviations of a record's means and variances from the truth's (see `jobs.moments`).

    Args:
        record, truth: what is judged, and what by.
        smooth: species whose own noise the method leaves out; their variances are not judged.
    """
    ours, theirs = _arrays(record), _arrays(truth)
    result: dict[str, Any] = {"num_entries": int(ours["mean"].size)}
    result |= _worst("mean", ours["mean"], theirs["mean"], _mean_error(ours, theirs), SEEN_MEAN)
    # A method without noise has no variance to judge.
    if np.any(ours["variance"] > 0):
        error = _variance_error(ours, theirs)
        judged = [name not in smooth for name in record["species"]]
        pairs = (ours["variance"][:, judged], theirs["variance"][:, judged], error[:, judged])
        result |= _worst("variance", *pairs, SEEN_VARIANCE)
    return result


def _arrays(record: dict[str, Any]) -> dict[str, Any]:
    names = ("mean", "variance", "fourth")
    arrays = {name: np.asarray(record[name], float) for name in names}
    # Without sampling error: as if from infinitely many samples.
    return arrays | {"size": record["num_samples"] or np.inf}


def _mean_error(ours: dict[str, Any], theirs: dict[str, Any]) -> Array:
    return np.sqrt(ours["variance"] / ours["size"] + theirs["variance"] / theirs["size"])


def _variance_error(ours: dict[str, Any], theirs: dict[str, Any]) -> Array:
    parts = [np.maximum(m["fourth"] - m["variance"] ** 2, 0.0) / m["size"] for m in (ours, theirs)]
    return np.sqrt(parts[0] + parts[1])


def _worst(what: str, ours: Array, theirs: Array, error: Array, seen: float) -> dict[str, Any]:
    gap = np.abs(ours - theirs)
    noisy = error > 0
    sigmas = np.divide(gap, error, out=np.zeros_like(gap), where=noisy)
    size = np.abs(theirs)
    is_seen = (size > 0) & (error < seen * size)
    result: dict[str, Any] = {
        f"{what}_sigmas": float(sigmas.max(initial=0.0)),
        f"num_{what}s_seen": int(is_seen.sum()),
        f"{what}_percent": None,
    }
    if is_seen.any():
        relative, error = gap[is_seen] / size[is_seen], error[is_seen] / size[is_seen]
        worst = int(np.argmax(relative))
        left = np.maximum(relative - SIGMAS * error, 0.0)
        result |= {
            f"{what}_percent": 100 * float(relative[worst]),
            f"{what}_error_percent": 100 * float(error[worst]),
            f"{what}_beyond_noise_percent": 100 * float(left.max()),
        }
    return result


def percent(record: dict[str, Any], what: str) -> str:
    """'worst % +- its error', or '-' where nothing can be seen."""
    if record.get(f"{what}_percent") is None:
        return "-"
    return f"{record[f'{what}_percent']:.2g} ± {record[f'{what}_error_percent']:.1g}"


MOMENTS = ("mean", "variance", "fourth", "species", "num_samples")


def without_moments(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its arrays, to be kept."""
    return {name: value for name, value in record.items() if name not in MOMENTS}
