"""The GPU driver: a block of steps inside one Pallas (Triton) kernel.

A lane is a thread: its counts, clock, generator, tallies and constants are read once, live in
registers for the whole block, thousands of events, and are written back once. A program of 128
lanes ends early when all of them wait, which it asks every few steps: the answer takes two
barriers. Saving, dosing and refilling happen between launches, by XLA, in `boundary`: Triton has
no scatter. The step is the very function that the XLA driver runs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from engine.kernel.state import Constants, Lanes

Step = Callable[[Constants, Lanes], Lanes]

# Lanes of a program, one for each thread of four warps.
WIDTH, WARPS = 128, 4
# Steps between two looks at whether all lanes of a program wait. The look is a reduction over four
# warps, some 25 of the 295 instructions of a step of vilar, and it holds each warp up for the
# slowest.
STRIDE = 8


def advance(
    step: Step, constants: Constants, lanes: Lanes, num_steps: Array, is_interpreted: bool = False
) -> Lanes:
    """Run up to `num_steps` steps of all lanes in one launch.

    Args:
        step: (constants, lanes) -> lanes, elementwise over lanes.
        constants, lanes: arrays (L,), or () where all lanes share a number.
        num_steps: scalar int32.
        is_interpreted: run the kernel's operations one by one, on any device.

    Returns:
        The lanes after the steps.
    """
    known = constants._replace(is_running=None)  # type: ignore[arg-type]
    given, structure = jax.tree.flatten((known, lanes))
    leaves, result = jax.tree.flatten(lanes)
    operands = [_as_operand(array) for array in (*given, num_steps)]
    width = _width(lanes.remaining.shape[0])

    def kernel(*refs: Any) -> None:
        read = [_as_given(ref, array) for ref, array in zip(refs, given, strict=False)]
        limit, written = refs[len(given)][0], refs[len(operands) :]
        fixed, first = jax.tree.unflatten(structure, read)
        # Inside a kernel nothing is fused away: `materialise` has nothing to do.
        fixed = fixed._replace(is_running=True)

        def is_going(state: tuple[Array, Lanes]) -> Array:
            return (state[0] < limit) & (jnp.max(state[1].remaining) >= 0)

        def go(state: tuple[Array, Lanes]) -> tuple[Array, Lanes]:
            taken, lanes = state
            stride = jnp.minimum(jnp.int32(STRIDE), limit - taken)
            lanes = lax.fori_loop(0, stride, lambda _, lanes: step(fixed, lanes), lanes)
            return taken + stride, lanes

        _, last = lax.while_loop(is_going, go, (jnp.int32(0), first))
        for ref, array in zip(written, jax.tree.leaves(last), strict=True):
            ref[...] = array

    launched = _launch(kernel, operands, leaves, width, is_interpreted)
    moved: Lanes = jax.tree.unflatten(result, launched)
    return moved


advance_interpreted = partial(advance, is_interpreted=True)


def _launch(
    kernel: Callable[..., None],
    operands: list[Array],
    leaves: list[Array],
    width: int,
    is_interpreted: bool,
) -> list[Array]:
    # Imported where it is used: half a second that a CPU user need not wait.
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    along_lanes = pallas.BlockSpec((width,), lambda program: (program,))
    shared = pallas.BlockSpec((1,), lambda program: (0,))
    call = pallas.pallas_call(
        kernel,
        grid=(leaves[0].shape[0] // width,),
        in_specs=[shared if array.shape == (1,) else along_lanes for array in operands],
        out_specs=[along_lanes for _ in leaves],
        out_shape=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in leaves],
        compiler_params=None if is_interpreted else triton.CompilerParams(num_warps=WARPS),
        interpret=is_interpreted,
    )
    return list(call(*operands))


def _width(num_lanes: int) -> int:
    """Lanes of a program: a power of two that divides the number of lanes."""
    return min(WIDTH, num_lanes & -num_lanes)


def _as_operand(array: Array) -> Array:
    """A kernel's operand: numbers for truths, one element for a scalar."""
    array = array.astype(jnp.int32) if array.dtype == bool else array
    return array.reshape(1) if array.ndim == 0 else array


def _as_given(ref: Any, array: Array) -> Array:
    value = ref[0] if array.ndim == 0 else ref[...]
    return value != 0 if array.dtype == bool else value
