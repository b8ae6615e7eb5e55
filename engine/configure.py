"""One call that makes XLA's CPU compiler keep up: `engine.configure_cpu()`."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

# With this option a block of steps becomes one function call instead of one dispatch per fused
# loop: vilar ran at 49 million events/s without it and 116 with it on jaxlib 0.10, and between
# nothing and a third faster on 0.12. An unknown option aborts the process, so it is set only for
# the releases on which it was measured. The sparse step of 1,000 reactions needs two million bytes
# (5.8 million events/s, 4.2 without); with four the dense step of 300 took 20 s to compile in place
# of 12 and was no faster.
OPTION = "xla_cpu_small_while_loop_byte_threshold=2000000"
MEASURED = ("0.10.", "0.11.", "0.12.")
_FLAG = "--xla_backend_extra_options="
# XLA uses half of a 512-bit vector unit unless it is told otherwise: vilar went from 145 to 195
# million events/s, jakstat from 79 to 97, dimer_decay from 240 to 318. Processors older than this
# feature slow their clock down for wide vectors, so they are left alone.
WIDE_VECTORS = "--xla_cpu_prefer_vector_width=512"
WIDE_FEATURE = "avx512_vbmi2"


def configure_cpu() -> str:
    """Set the XLA options that the lane kernel profits from, before JAX starts its CPU backend.

    It changes the environment variable `XLA_FLAGS` of this process, nothing else; the command line
    tool calls it for you. Results do not depend on it, speed does.

    Returns:
        What it did: "set", "already set", or why it did nothing ("too late: ...",
        "not set: ...").

    Example:
        >>> import engine
        >>> engine.configure_cpu() != ""
        True
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if OPTION in flags:
        return "already set"
    release = version("jaxlib")
    if not release.startswith(MEASURED):
        return f"not set: not measured on jaxlib {release}"
    if _is_backend_started():
        return "too late: JAX has started; call configure_cpu() before the first computation"
    others = [flag for flag in flags.split() if not flag.startswith(_FLAG)]
    extra = [flag[len(_FLAG) :] for flag in flags.split() if flag.startswith(_FLAG)]
    is_chosen = any(flag.startswith(WIDE_VECTORS.split("=")[0]) for flag in others)
    if _has_wide_vectors() and not is_chosen:
        others.append(WIDE_VECTORS)
    os.environ["XLA_FLAGS"] = " ".join([*others, _FLAG + ",".join([*extra, OPTION])])
    return "set"


def _has_wide_vectors() -> bool:
    try:
        return WIDE_FEATURE in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _is_backend_started() -> bool:
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge

    return bool(xla_bridge.backends_are_initialized())
