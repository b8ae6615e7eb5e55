"""The linear noise approximation against exact moments, the master equation and its contract."""

from functools import partial

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

import engine
from engine.dosing.schedule import compile_schedule
from engine.errors import InvalidInput
from engine.methods import linear_noise, rate_equations
from engine.methods.linear_noise import LinearNoise, integrate, moment_equations
from engine.methods.lyapunov import MomentSolver, positions
from tests import exact
from tests.simulation import network, run

BIRTH_DEATH = network(
    {"X": 0}, [("0 -> X", "birth"), ("X -> 0", engine.MassAction("death"))],
    parameters={"birth": 10.0, "death": 0.1},
)  # fmt: skip
# DNA makes RNA makes protein, which dies; B flows through and never reacts back.
CASCADE = network(
    {"M": 3, "P": 40, "B": 5},
    [("0 -> M", 2.0), ("M -> 0", 0.5), ("M -> M + P", 4.0), ("P -> 0", 0.1), ("P -> B", 0.05)],
)
TS = np.array([0.0, 0.5, 3.0, 20.0])
TIGHT = LinearNoise(rtol=1e-10, atol=1e-10)


# Exact for laws affine in the counts.


def test_birth_death_patient_by_patient():
    death, x0 = np.array([0.1, 0.4]), np.array([0.0, 60.0])
    means, covariances, is_ok = integrate(
        LinearNoise(), BIRTH_DEATH, TS, {"death": death}, x0[:, None]
    )
    assert means.shape == (2, 4, 1) and covariances.shape == (2, 4, 1, 1) and is_ok.all()
    for patient in range(2):
        truth = exact.immigration_death_moments(int(x0[patient]), 10.0, death[patient], TS)
        np.testing.assert_allclose(means[patient, :, 0], truth.mean, rtol=1e-6, atol=1e-6)
        found = covariances[patient, :, 0, 0]
        np.testing.assert_allclose(found, truth.variance, rtol=1e-6, atol=1e-6)
        twin = exact.immigration_death_moments(int(x0[patient]), 10.2, death[patient], TS)
        assert not np.allclose(found, twin.variance, rtol=1e-3, atol=1e-3)


def cascade_moments(first_rate=2.0):
    changes = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, -1, 1]]
    linear = [[0, 0, 0], [0.5, 0, 0], [4, 0, 0], [0, 0.1, 0], [0, 0.05, 0]]
    return exact.affine_moments(changes, [first_rate, 0, 0, 0, 0], linear, [3, 40, 5], TS)


@pytest.mark.full
def test_cascade_of_three_species():
    means, covariances, is_ok = integrate(
        LinearNoise(), CASCADE, TS, {}, np.array([[3.0, 40.0, 5.0]])
    )
    truth_means, truth_covariances = cascade_moments()
    assert is_ok.all()
    np.testing.assert_allclose(means[0], truth_means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(covariances[0], truth_covariances, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(covariances, covariances.swapaxes(2, 3))
    _, twin = cascade_moments(2.04)
    assert not np.allclose(covariances[0], twin, rtol=1e-3, atol=1e-3)


# Dimerisation: the error vanishes with the volume.


def dimers(volume: int) -> engine.ReactionNetwork:
    """2 P <-> D in `volume`, 10 P per volume."""
    return network(
        {"P": 10 * volume, "D": 0},
        [
            ("2 P -> D", engine.MassAction(0.1 / volume), "bind"),
            ("D -> 2 P", engine.MassAction(0.3), "part"),
        ],
    )


def dimer_truth(volume: int) -> exact.Distribution:
    def propensity(x: np.ndarray, t: float) -> np.ndarray:
        p, d = x.T
        return np.stack([0.1 / volume * p * (p - 1) / 2, 0.3 * d], axis=1)

    upper, x0 = (10 * volume, 5 * volume), (10 * volume, 0)
    return exact.FiniteStateProjection([[-2, 1], [2, -1]], propensity, upper, x0).distribution(TS)


def dimer_errors(volume: int, system=moment_equations) -> tuple[float, float]:
    """Largest relative errors of the means and of the variances after time 0."""
    truth, model = dimer_truth(volume), dimers(volume)
    values, _ = rate_equations.integrate(
        TIGHT, system, model, TS, {}, np.array([[10.0 * volume, 0.0]]), None, 3
    )
    mean_error = np.abs(values[0, 1:, :2] / truth.means()[1:] - 1).max()
    variances = values[0, 1:, [2, 4]].T
    return mean_error, np.abs(variances / truth.variances()[1:] - 1).max()


@pytest.mark.full
def test_dimerisation_converges_to_the_master_equation_as_one_over_the_volume():
    volumes = np.array([4, 16, 64])
    errors = np.array([dimer_errors(int(v)) for v in volumes])
    orders = np.log(errors[:-1] / errors[1:]) / np.log(volumes[1:] / volumes[:-1])[:, None]
    assert np.all(orders > 0.9) and np.all(orders < 1.1), orders
    assert errors[-1, 0] < 1e-3 and errors[-1, 1] < 4e-3, errors


def without_diffusion(model):
    """A twin that must fail: nothing feeds the covariance."""
    right, num = moment_equations(model), 2
    return lambda *args: right(*args).at[num:].set(0.0)


def with_a_faster_reaction(model):
    """A twin that must fail: binding 2% too fast."""
    return moment_equations(
        network(
            {"P": 1, "D": 0},
            [
                ("2 P -> D", engine.MassAction(1.02 * 0.1 / 64), "bind"),
                ("D -> 2 P", engine.MassAction(0.3), "part"),
            ],
        )
    )


@pytest.mark.full
def test_twins_of_the_dimerisation_fail():
    assert dimer_errors(64, without_diffusion)[1] > 0.5
    mean_error, variance_error = dimer_errors(64, with_a_faster_reaction)
    assert mean_error > 5e-3 and variance_error > 4e-3


# Drug, doses, rules.


def test_a_drug_drives_immigration_and_a_bolus_moves_the_mean_only():
    """X is Poisson while no dose is given into it: the variance is the mean without the bolus."""
    model = network(
        {"X": 0},
        [("0 -> X", "k * drug"), ("X -> 0", engine.MassAction("g"))],
        parameters={"k": 10.0, "g": 0.3},
        inputs=["drug"],
    )
    drug = engine.OneCompartment(clearance=2.0, volume=8.0)
    doses = [engine.Dose(16.0, into="drug", time=t) for t in (0.0, 1.7)]
    bolus = engine.Dose(25, into="X", time=3.0)
    ts = np.array([0.0, 1.0, 2.5, 3.0, 7.0])
    ensemble = engine.simulate(
        model, engine.LinearNoise(), ts, num_patients=2, num_replicates=2,
        inputs={"drug": drug}, regimen=engine.Regimen([*doses, bolus]), key=jax.random.key(0),
    )  # fmt: skip

    def intensity(t: float, rate: float = 10.0) -> float:
        return rate * sum(2.0 * np.exp(-0.25 * (t - s)) for s in (0.0, 1.7) if t >= s)

    def poisson(rate: float) -> np.ndarray:
        arrived = partial(intensity, rate=rate)
        moments = exact.inhomogeneous_immigration_death_moments
        return np.array([moments(arrived, 0.3, t, breakpoints=(1.7,)).mean for t in ts])

    # The 25 molecules that were dosed die independently: a binomial with certain start.
    alive = np.where(ts >= 3.0, np.exp(-0.3 * np.maximum(ts - 3.0, 0.0)), 0.0)
    truth = poisson(10.0)
    assert ensemble.values.shape == (4, 5, 1)
    np.testing.assert_allclose(ensemble["X"][3], truth + 25 * alive, rtol=1e-6, atol=1e-6)
    variances = ensemble.covariances[3, :, 0, 0]
    np.testing.assert_allclose(variances, truth + 25 * alive * (1 - alive), rtol=1e-6, atol=1e-6)
    assert not np.allclose(variances, poisson(10.2) + 25 * alive * (1 - alive), rtol=1e-3)
    np.testing.assert_allclose(ensemble["drug"][0, 0], 2.0)


@pytest.mark.full
def test_a_rate_rule_has_no_noise_of_its_own_and_passes_on_what_it_receives():
    """V' = X - V follows a birth-death X: the covariances of an affine system."""
    model = engine.ReactionNetwork(
        species={"X": 20},
        reactions=[
            engine.Reaction("0 -> X", engine.MassAction(10.0)),
            engine.Reaction("X -> 0", engine.MassAction(0.5)),
        ],
        variables=[engine.Variable("V", 3.0)],
        rate_rules=[engine.RateRule("V", "total - V")],
        assignment_rules={"total": "X"},
    )
    _, covariances, is_ok = integrate(LinearNoise(), model, TS, {}, np.array([[20.0]]))
    _, alone, _ = integrate(
        LinearNoise(),
        network({"X": 20}, [("0 -> X", 10.0), ("X -> 0", 0.5)]),
        TS,
        {},
        np.array([[20.0]]),
    )
    assert is_ok.all()
    np.testing.assert_allclose(covariances[0, :, 0, 0], alone[0, :, 0, 0], rtol=1e-6, atol=1e-6)
    # At rest: J C + C J' + D = 0 with J = [[-a, 0], [1, -1]], D = diag(2 mean a, 0).
    at_rest = covariances[0, -1]
    expected = [[20.0, 20.0 / 1.5], [20.0 / 1.5, 20.0 / 1.5]]
    np.testing.assert_allclose(at_rest, expected, rtol=2e-3)


# Derivatives.


def final_moments(rates: jax.Array) -> jax.Array:
    """Means and covariances of the dimers at the last time, by their two rate constants."""
    model = network(
        {"P": 100, "D": 0},
        [("2 P -> D", engine.MassAction("on")), ("D -> 2 P", engine.MassAction("off"))],
        parameters={"on": 0.01, "off": 0.3},
    )
    rows = rate_equations.prepare_rows(model, {}, np.array([[100.0, 0.0]]), None, 3)
    one = jax.tree.map(lambda array: jnp.asarray(array[0]), rows)
    one = one._replace(params={"on": rates[0], "off": rates[1]})
    values, _ = rate_equations.solve_patient(
        TIGHT, moment_equations, model, (), jnp.asarray([0.0, 2.0]), one
    )
    return values[-1]


def test_gradients_of_means_and_covariances_are_those_of_finite_differences():
    with jax.enable_x64(True):
        rates = np.array([0.01, 0.3])
        found = np.asarray(jax.jit(jax.jacrev(final_moments))(jnp.asarray(rates)))
        steps = 1e-4 * np.diag(rates)
        value = jax.jit(final_moments)
        differences = np.stack(
            [
                np.asarray(value(rates + step) - value(rates - step)) / (2 * step.sum())
                for step in steps
            ],
            axis=1,
        )
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found, differences, rtol=1e-5)


# Contract.


def test_through_simulate_chunks_and_to_xarray():
    ensemble = run(CASCADE, TS, 3, method=engine.LinearNoise(), record=["B", "M"], num_replicates=2)
    truth_means, truth_covariances = cascade_moments()
    assert ensemble.species == ("M", "B") and ensemble.covariances.shape == (6, 4, 2, 2)
    np.testing.assert_allclose(ensemble["B"][5], truth_means[:, 2], rtol=1e-6, atol=1e-6)
    truth = truth_covariances[:, [0, 2]][..., [0, 2]]
    np.testing.assert_allclose(ensemble.covariances[5], truth, rtol=1e-6, atol=1e-6)
    data = ensemble.to_xarray()
    one = data.covariances.sel(patient=2, replicate=1, species="M", species_2="B")
    np.testing.assert_allclose(one, truth[:, 0, 1], rtol=1e-6, atol=1e-6)
    assert run(CASCADE, TS, 1).covariances is None
    assert "covariances" not in run(CASCADE, TS, 1, method=engine.ODE()).to_xarray()


@pytest.mark.full
def test_chunks_of_rows_are_joined(monkeypatch):
    monkeypatch.setattr(engine.execute, "ODE_ROWS", 2)
    monkeypatch.setattr(rate_equations, "MAX_CHUNK", 2)
    births = np.array([1.0, 2.0, 5.0])
    ensemble = run(BIRTH_DEATH, TS, 3, method=engine.LinearNoise(), params={"birth": births})
    truth = [exact.immigration_death_moments(0, b, 0.1, TS).variance for b in births]
    np.testing.assert_allclose(ensemble.covariances[:, :, 0, 0], truth, rtol=1e-6, atol=1e-6)


def test_new_values_do_not_recompile():
    integrate(LinearNoise(), BIRTH_DEATH, TS, {}, np.zeros((3, 1)))
    before = rate_equations._solve_chunk._cache_size()
    integrate(LinearNoise(), BIRTH_DEATH, TS + 1.0, {"birth": 3.0}, np.ones((4, 1)))
    assert rate_equations._solve_chunk._cache_size() == before


def test_many_species_are_solved_few_at_a_time():
    """A Jacobian of 50 species has 14 MB; a chunk holds what fits."""
    assert rate_equations._chunk_size(1 + 1) == rate_equations.MAX_CHUNK
    assert rate_equations._chunk_size(50 + 50 * 51 // 2) * 1325**2 * 8 <= rate_equations.CHUNK_BYTES
    assert rate_equations._chunk_size(100_000) == 1


@pytest.mark.full
def test_failures_are_a_status():
    with pytest.raises(engine.SimulationFailed, match="solver"):
        run(BIRTH_DEATH, TS, 1, method=engine.LinearNoise(max_steps=2))
    # A law that is negative would take noise away.
    negative = network({"X": 100}, [("X -> 0", "X * (0.2 - time)")])
    _, _, is_ok = integrate(LinearNoise(), negative, np.array([0.0, 2.0]), {}, np.array([[100.0]]))
    assert is_ok.tolist() == [False]


def test_what_it_cannot_do_is_refused_by_name():
    event = engine.Event("rescue", "X > 10", assignments={"X": "0"})
    with_event = network({"X": 1}, [("X -> 0", 1.0)], events=[event])
    with pytest.raises(InvalidInput, match=r"rescue.*linear noise"):
        run(with_event, TS, method=engine.LinearNoise())
    tallies = {"peak": engine.Maximum("X")}
    with pytest.raises(InvalidInput, match=r"peak.*LinearNoise"):
        run(BIRTH_DEATH, TS, method=engine.LinearNoise(), tallies=tallies)
    with pytest.raises(InvalidInput, match=r"is_trough_saved.*LinearNoise"):
        run(BIRTH_DEATH, TS, method=engine.LinearNoise(), is_trough_saved=True)
    driven = network({"X": 0}, [("0 -> X", "drug")], inputs=["drug"])
    with pytest.raises(InvalidInput, match="'drug'"):
        integrate(LinearNoise(), driven, TS, {}, np.zeros((1, 1)))
    with pytest.raises(InvalidInput, match="LinearNoise rtol"):
        LinearNoise(rtol=-1.0)
    _, schedule = compile_schedule(BIRTH_DEATH, {}, None, 3)
    assert linear_noise.integrate(LinearNoise(), BIRTH_DEATH, TS, {}, np.zeros((3, 1)), schedule)


# The linear systems of a step.


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("stiffness", [1.0, 1e3, 1e6])
def test_the_lyapunov_solver_agrees_with_elimination(sign, stiffness):
    num, random = 6, np.random.default_rng(0)
    size = num * (num + 1) // 2
    jacobian = random.normal(size=(num, num)) - 4 * np.eye(num)
    jacobian[0] *= stiffness
    coupling, right = random.normal(size=(size, num)), random.normal(size=num + size)

    def step(u: jax.Array) -> jax.Array:
        x, covariance = u[:num], u[num:][positions(num)]
        drawn = jnp.asarray(jacobian) @ covariance
        change = (drawn + drawn.T)[np.triu_indices(num)] + jnp.asarray(coupling) @ x
        return sign * (u - 0.3 * jnp.concatenate([jnp.asarray(jacobian) @ x, change]))

    with jax.enable_x64(True):
        shape = jax.ShapeDtypeStruct((num + size,), jnp.float64)
        operator = lineax.FunctionLinearOperator(step, shape)
        found = lineax.linear_solve(operator, jnp.asarray(right), MomentSolver(num)).value
        truth = np.linalg.solve(np.asarray(operator.as_matrix()), right)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9 * np.abs(truth).max())
