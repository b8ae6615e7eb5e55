"""Ten thousand exact trajectories of receptor binding, and two tallies."""

import engine

engine.configure_cpu()

import jax  # noqa: E402  (after configure_cpu, so that JAX starts with its options)

network = engine.ReactionNetwork(
    species={"IL6": 500, "IL6R": 1000, "C": 0},
    parameters={"k_on": 2e-4, "k_off": 0.1, "k_int": 0.05},
    reactions=[
        *engine.reversible("IL6 + IL6R <-> C", "k_on", "k_off", name="bind"),
        engine.Reaction("C -> 0", engine.MassAction("k_int"), name="internalise"),
    ],
    time_unit="min",
)

if __name__ == "__main__":
    ensemble = engine.simulate(
        network,
        engine.Direct(),
        [0, 10, 60],
        num_patients=10_000,
        tallies={"peak": engine.Maximum("C"), "auc": engine.TimeIntegral("C")},
        key=jax.random.key(0),
    )
    print("complexes after 0, 10, 60 min:", ensemble["C"].mean(axis=0))
    print("peak:", ensemble.tallies["peak"].mean(), "molecules")
    print("area under the curve:", ensemble.tallies["auc"].mean(), "molecules min")
