"""Patients who differ, a drug given by mouth, and a rescue dose when a cytokine runs away.

A macrophage population makes IL-6, IL-6 makes more of it, and a blocking antibody stops the loop.
The numbers are invented to show the words of the engine; they describe no real drug.
"""

import engine

engine.configure_cpu()

import jax  # noqa: E402
import numpy as np  # noqa: E402

network = engine.ReactionNetwork(
    species={"IL6": 20},
    inputs=["antibody"],
    parameters={"basal": 4.0, "gain": 60.0, "half": 150.0, "loss": 0.2},
    reactions=[
        engine.Reaction("0 -> IL6", "basal + gain * IL6^2 / (half^2 + IL6^2) / (1 + antibody)"),
        engine.Reaction("IL6 -> 0", engine.MassAction("loss")),
    ],
    events=[engine.Event("rescue", "IL6 > 200", doses={"antibody": 30.0}, delay=2.0)],
    time_unit="h",
)

if __name__ == "__main__":
    num_patients = 2_000
    draws = np.random.default_rng(1)
    ensemble = engine.simulate(
        network,
        engine.Direct(),
        np.arange(0.0, 97.0, 4.0),
        num_patients=num_patients,
        params={"gain": 60.0 * draws.lognormal(0.0, 0.2, num_patients)},
        inputs={
            "antibody": engine.OneCompartment(
                clearance=0.5 * draws.lognormal(0.0, 0.3, num_patients), volume=5.0, absorption=1.0
            )
        },
        regimen=engine.Regimen(engine.Dose(5.0, into="antibody", interval=24.0, additional=3)),
        tallies={"peak": engine.Maximum("IL6"), "storm": engine.FirstPassage("IL6 > 200")},
        key=jax.random.key(0),
    )
    storm = np.isfinite(ensemble.tallies["storm"])
    print(f"{storm.mean():.1%} of patients pass 200 molecules of IL-6 and are given a rescue dose")
    print(f"median peak: {np.median(ensemble.tallies['peak']):.0f} molecules")
    print("antibody, patient 0:", ensemble["antibody"][0].round(2))
