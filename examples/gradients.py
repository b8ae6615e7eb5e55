"""How does the risk of a peak depend on a drug's dose and affinity? Gradients with errors."""

import jax

import engine
from engine import gradient

network = engine.ReactionNetwork(
    species={"R": 60, "C": 0, "IL6": 0},
    parameters={"k_on": 0.05, "k_off": 0.4, "make": 1.5, "clear": 0.2},
    reactions=[
        engine.Reaction("R -> C", engine.Formula("k_on * drug * R"), "bind"),
        engine.Reaction("C -> R", engine.MassAction("k_off"), "unbind"),
        engine.Reaction("C -> C + IL6", engine.MassAction("make"), "release"),
        engine.Reaction("IL6 -> 0", engine.MassAction("clear"), "clear_it"),
    ],
    inputs=["drug"],
    time_unit="h",
)
therapy = {
    "inputs": {"drug": engine.OneCompartment(clearance=0.15, volume=1.0)},
    "regimen": engine.Regimen(engine.Dose(3.0, into="drug")),
    "key": jax.random.key(0),
    "num_patients": 4000,
}
# P(more than 50 molecules of IL-6 at 10 h), by the critic: unbiased, and far less noisy than the
# plain score.
storm = gradient.Outcome(engine.FinalValue("IL6"), lambda count: count > 50)
wanted = ["k_on", "make", gradient.DoseAmount(0)]
for estimator in (gradient.ScoreFunction(), gradient.MartingaleCritic()):
    found = gradient.estimate(network, estimator, storm, wanted, 10.0, **therapy)
    print(f"{type(estimator).__name__}\n{found}\n")
