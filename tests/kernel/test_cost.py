"""What a step costs with its tallies."""

from engine.kernel.cost import operations, relative_cost
from engine.network.expressions import parse


def test_a_step_without_tallies_is_the_unit() -> None:
    assert relative_cost(4, [], 0) == 1.0


def test_what_is_looked_at_costs() -> None:
    light, heavy = parse("k * X"), parse("1 / (1 + exp(-(a + b * X)))")
    assert 1.0 < relative_cost(4, [light], 2) < relative_cost(4, [heavy], 2)
    assert relative_cost(40, [heavy], 2) < relative_cost(4, [heavy], 2)


def test_functions_count_as_many_instructions() -> None:
    assert operations(parse("a + b + c")) == 2
    assert operations(parse("exp(a)")) > operations(parse("a * b + c"))
