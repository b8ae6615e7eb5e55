"""Gradients of expected outcomes through exact stochastic simulation."""

from engine.gradient.adjoint_critic import MeanFieldAdjoint as MeanFieldAdjoint
from engine.gradient.automatic import Automatic as Automatic
from engine.gradient.coupled_difference import CoupledDifference as CoupledDifference
from engine.gradient.dose_targets import DoseAmount as DoseAmount
from engine.gradient.dose_targets import DoseDuration as DoseDuration
from engine.gradient.dose_targets import DoseRate as DoseRate
from engine.gradient.dose_targets import DoseTime as DoseTime
from engine.gradient.dose_targets import IndividualDoses as IndividualDoses
from engine.gradient.estimate import estimate as estimate
from engine.gradient.expected import expected as expected
from engine.gradient.fitted_critic import FittedCritic as FittedCritic
from engine.gradient.martingale_critic import MartingaleCritic as MartingaleCritic
from engine.gradient.network_critic import NetworkCritic as NetworkCritic
from engine.gradient.outcome import Outcome as Outcome
from engine.gradient.pathwise import Pathwise as Pathwise
from engine.gradient.random_perturbation import RandomPerturbation as RandomPerturbation
from engine.gradient.result import Gradient as Gradient
from engine.gradient.score_function import ScoreFunction as ScoreFunction
from engine.gradient.several import estimate_all as estimate_all
from engine.gradient.table_critic import TableCritic as TableCritic
from engine.gradient.targets import InitialCount as InitialCount
from engine.gradient.targets import PharmacokineticParameter as PharmacokineticParameter
from engine.gradient.targets import PopulationMean as PopulationMean
