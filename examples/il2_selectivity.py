"""Interleukin-2 muteins on four cell types: rate equations and exact simulation side by side."""

import engine

engine.configure_cpu()

import jax  # noqa: E402
import numpy as np  # noqa: E402

from engine.models.il2 import il2_receptor  # noqa: E402
from engine.therapy.molecules import WILD_TYPE, mutein  # noqa: E402

# "No alpha" binds the alpha chain a thousand times more weakly than the wild type (assumed).
MOLECULES = (WILD_TYPE, mutein("no alpha", kd_alpha=1e4, kd_beta_gamma=0.133))

if __name__ == "__main__":
    ts = np.array([0.0, 10.0])
    for molecule in MOLECULES:
        for cell in ("Treg", "NK"):
            network = il2_receptor(cell, molecule)
            ligand = {"IL2": engine.ConstantLevel(0.05)}  # nM
            mean_field = engine.simulate(
                network, engine.ODE(), ts, inputs=ligand, key=jax.random.key(0)
            )
            exact = engine.simulate(
                network,
                engine.Direct(),
                ts,
                num_patients=16,
                inputs=ligand,
                key=jax.random.key(0),
            )
            active = exact["active"][:, -1]
            print(
                f"{molecule.name:10s} {cell:5s} active complexes after 10 min: "
                f"rate equations {mean_field['active'][0, -1]:7.1f}, "
                f"exact {active.mean():7.1f} +- {active.std():5.1f}"
            )
