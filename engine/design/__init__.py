"""Therapy design: the largest expected benefit under a bound on risk."""

from engine.design.fractions import Fractions as Fractions
from engine.design.fractions import optimise_fractions as optimise_fractions
from engine.design.grid import search_grid as search_grid
from engine.design.journal import Journal as Journal
from engine.design.optimiser import optimise as optimise
from engine.design.options import AugmentedLagrangian as AugmentedLagrangian
from engine.design.personal import Subgroups as Subgroups
from engine.design.personal import optimise_policy as optimise_policy
from engine.design.policy import Exponential as Exponential
from engine.design.policy import Power as Power
from engine.design.problem import Criterion as Criterion
from engine.design.problem import TherapyProblem as TherapyProblem
from engine.design.result import Design as Design
from engine.design.variables import Variable as Variable
from engine.design.verification import verify as verify
