"""Therapy design: the largest expected benefit under a bound on risk."""

from engine.design.grid import search_grid as search_grid
from engine.design.optimiser import AugmentedLagrangian as AugmentedLagrangian
from engine.design.optimiser import optimise as optimise
from engine.design.problem import Criterion as Criterion
from engine.design.problem import TherapyProblem as TherapyProblem
from engine.design.result import Design as Design
from engine.design.variables import Variable as Variable
from engine.design.verification import verify as verify
