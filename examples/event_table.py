"""A NONMEM-style event table drives a stochastic response."""

from pathlib import Path

import engine

engine.configure_cpu()

import jax  # noqa: E402
import numpy as np  # noqa: E402

network = engine.ReactionNetwork(
    species={"pSTAT": 0},
    inputs=["drug"],
    parameters={"phosphorylation": 40.0, "ec50": 1.0, "dephosphorylation": 0.5},
    reactions=[
        engine.Reaction("0 -> pSTAT", "phosphorylation * drug / (ec50 + drug)"),
        engine.Reaction("pSTAT -> 0", engine.MassAction("dephosphorylation")),
    ],
    time_unit="h",
)

if __name__ == "__main__":
    table = engine.read_event_table(Path(__file__).with_name("doses.csv"), {1: "drug"})
    weight = table.covariates["WT"]
    ensemble = engine.simulate(
        network,
        engine.Direct(),
        np.arange(0.0, 49.0, 6.0),
        num_patients=len(table.patient_ids),
        num_replicates=500,
        patient_ids=table.patient_ids,
        inputs={"drug": engine.OneCompartment(clearance=0.02 * weight, volume=0.2 * weight)},
        regimen=table.regimens,
        key=jax.random.key(0),
    )
    mean = ensemble["pSTAT"].reshape(len(weight), 500, -1).mean(axis=1)
    for patient, row in zip(table.patient_ids, mean, strict=True):
        print(f"patient {patient}: mean pSTAT every 6 h", row.round(1))
