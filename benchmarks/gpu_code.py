"""What the GPU kernel compiles to, found out on a machine without a GPU.

    pip install -e '.[cuda]' nvidia-cuda-nvdisasm
    python -m benchmarks.gpu_code --out benchmarks/results/gpu_code.json

XLA's CUDA compiler needs a description of a GPU, not the GPU. For every network and method the
whole simulation of 2^18 patients is compiled for an H200, and NVIDIA's assembler and disassembler
tell what a lane costs: registers (which decide how many lanes a multiprocessor holds), registers
that are spilled to memory (none may be), machine instructions of a step, and how many kernels and
copies are launched between two blocks of steps. Instructions give a limit: every multiprocessor
issues 128 of them a clock. What a GPU reaches below the limit only `benchmarks.gpu` can tell.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.rivals import default_models_directory

CASES = [
    ("birth_death", "Direct"),
    ("dimer_decay", "Direct"),
    ("vilar", "Direct"),
    ("jakstat", "Direct"),
    ("dimer_decay", "TauLeaping"),
]
NUM_PATIENTS = 2**18

# NVIDIA's data sheet of the H200 (SXM) and the limits of compute capability 9.0 in the CUDA C
# programming guide.
MULTIPROCESSORS, CLOCK_GHZ, REGISTERS = 132, 1.98, 65536
ISSUED_PER_CLOCK = 128
MOST_THREADS = 2048
H200 = f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: {MOST_THREADS}
  core_count: {MULTIPROCESSORS}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: {CLOCK_GHZ}
  device_memory_size: 149000000000
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  registers_per_core_limit: {REGISTERS}
  registers_per_block_limit: {REGISTERS}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "NVIDIA H200"
"""


class _Compiled(Exception):
    """Ends a simulation when its program has been compiled."""


@contextmanager
def _compiling_only() -> Iterator[None]:
    """Simulations compile their program for an H200 and end."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh

    from engine.kernel import driver
    from engine.kernel.runner import Runner

    topology = topologies.get_topology_desc("h200", "cuda", target_config=H200, topology="1x1x1")
    on_device = SingleDeviceSharding(topology.devices[0])
    abstract = AbstractDevice("NVIDIA H200", MULTIPROCESSORS, "cuda")

    def compile_only(runner: Any, patients: Any) -> Any:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), patients)
        whole = runner._function.__wrapped__
        function = jax.jit(whole, in_shardings=on_device, out_shardings=on_device)
        with use_abstract_mesh(AbstractMesh((), (), abstract_device=abstract)):
            function.trace(shapes).lower(lowering_platforms=("cuda",)).compile()
        raise _Compiled

    kept, Runner._executable = Runner._executable, compile_only  # type: ignore[method-assign]
    try:
        with driver.using(driver.PALLAS):
            yield
    except _Compiled:
        pass
    finally:
        Runner._executable = kept  # type: ignore[method-assign]


def compile_case(name: str, method: str, models: Path, dump: Path) -> None:
    """Compile a simulation for the H200; XLA leaves what it made in `dump`."""
    os.environ["XLA_FLAGS"] = (
        f"--xla_gpu_autotune_level=0 --xla_dump_to={dump} --xla_dump_hlo_module_re=.*jit_run.* "
        "--xla_dump_emitter_re=ptx"
    )
    # Without a GPU its driver cannot be asked for its version.
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    import jax
    import numpy as np

    import engine

    network = engine.read_sbml(models / f"{name}.xml")
    first = network.species_names[0]
    with _compiling_only():
        engine.simulate(
            network,
            getattr(engine, method)(),
            np.linspace(0.0, 10.0, 11),
            num_patients=NUM_PATIENTS,
            record=[first],
            tallies={"peak": engine.Maximum(first)},
            key=jax.random.key(0),
        )


def kernel_code(dump: Path) -> dict[str, Any]:
    """Registers, spills and the instructions of a step, from the kernel's PTX."""
    kernels = [path for path in dump.glob("*.ptx") if ".entry kernel(" in path.read_text()]
    binary = dump / "kernel.cubin"
    assembled = _tool("ptxas", "-v", "-arch=sm_90a", "-O3", str(kernels[0]), "-o", str(binary))
    registers = int(re.findall(r"Used (\d+) registers", assembled)[0])
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", assembled))
    lanes = min(MOST_THREADS, REGISTERS // (8 * -(-registers // 8)) // 128 * 128)
    return {
        "registers": registers,
        "spilled_bytes": spilled,
        "lanes_per_multiprocessor": lanes,
        "instructions_per_step": steps_instructions(_tool("nvdisasm", "-c", str(binary))),
    }


def steps_instructions(assembly: str) -> int:
    """Instructions of the loop over steps: the innermost loop that has most of them."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in assembly.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(.*);", line):
            instructions.append(found[1])
    loops = []
    for position, instruction in enumerate(instructions):
        target = re.match(r"BRA.*`\(\.(L_x_\d+)\)", instruction)
        if target and labels.get(target[1], position) < position:
            loops.append((labels[target[1]], position))
    innermost = [
        (first, last)
        for first, last in loops
        if not any(first <= a and b <= last for a, b in loops if (a, b) != (first, last))
    ]
    return max(last - first + 1 for first, last in innermost)


def launches(dump: Path) -> dict[str, int]:
    """Kernels and copies that are launched from one block of steps to the next."""
    sequence = next(dump.glob("*thunk_sequence.txt")).read_text()
    body = sequence[sequence.index("body:") :]
    return {"kernels": body.count("kCustomKernel"), "copies": body.count("] kCopy")}


def _tool(name: str, *arguments: str) -> str:
    """What one of NVIDIA's command line tools prints, found on the path or beside JAX."""
    places = [str(path.parent) for path in Path(sys.prefix).glob(f"lib/*/site-packages/**/{name}")]
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        raise SystemExit(f"{name} is missing: pip install -e '.[cuda]' nvidia-cuda-nvdisasm")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(arguments)}: {done.stderr.strip()[-300:]}")
    return done.stdout + done.stderr


def measure(name: str, method: str, models: Path) -> dict[str, Any]:
    """Compile a case in a process of its own and read its code."""
    with tempfile.TemporaryDirectory() as folder:
        here = ["--case", name, method, "--dump", folder, "--models-directory", str(models)]
        command = [sys.executable, "-m", "benchmarks.gpu_code", *here]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            last = (child.stderr.strip().splitlines() or ["no message"])[-1]
            raise SystemExit(f"{name}, {method} did not compile for the H200: {last}")
        code = kernel_code(Path(folder))
        between = launches(Path(folder))
    issued = MULTIPROCESSORS * ISSUED_PER_CLOCK * CLOCK_GHZ * 1e9
    limit = issued / code["instructions_per_step"]
    return {"model": name, "method": method, **code, **between, "limit_steps_per_second": limit}


def main() -> None:
    """Compile every case, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models-directory", type=Path, default=default_models_directory())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        compile_case(*options.case, options.models_directory, options.dump)
        return
    import jax

    for tool in ("ptxas", "nvdisasm"):
        _tool(tool, "--version")
    records = []
    print("model        method              registers  spilled  instructions  launches  limit G/s")
    for name, method in CASES:
        r = measure(name, method, options.models_directory)
        records.append(r)
        print(
            f"{name:12s} {method:18s} {r['registers']:10d} {r['spilled_bytes']:8d} "
            f"{r['instructions_per_step']:13d} {r['kernels'] + r['copies']:9d} "
            f"{r['limit_steps_per_second'] / 1e9:10.0f}",
            flush=True,
        )
    if options.out:
        machine = {"compiled_for": "NVIDIA H200", "is_run": False, "jax": jax.__version__}
        options.out.write_text(
            json.dumps({"machine": machine, "records": records}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
