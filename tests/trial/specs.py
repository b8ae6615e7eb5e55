"""A tiny trial and a stand-in for its mean field, which takes long to compile."""

import copy

from engine.trial import reference
from engine.trial.spec import TrialSpec

CONTENTS = {
    "name": "tiny",
    "seed": 3,
    "model": "il2_receptor",
    "cells": {"types": ["Treg", "Th"], "per_patient": 2},
    "population": {
        "num_patients": 6,
        "covariates": {
            "clearance": {
                "distribution": "log_normal",
                "median": 1.0,
                "cv": 0.3,
                "unit": "1",
                "source": "assumed",
            },
            "IL2Ra": {
                "distribution": "uniform",
                "low": 0.5,
                "high": 2.0,
                "unit": "1",
                "source": "assumed",
            },
        },
    },
    "window": {"start": 60.0, "duration": 2.0, "points": 3},
    "limits": {"max_events": 150_000},
    "arms": [
        {"name": "placebo", "dose": 0.0, "interval": 61.0, "additional": 1},
        {"name": "low", "dose": 1.0, "interval": 61.0, "additional": 1},
        {"name": "high", "dose": 8.0, "interval": 61.0, "additional": 1},
    ],
}


def contents():
    """The tiny trial, to change."""
    return copy.deepcopy(CONTENTS)


def tiny(**changes):
    """The tiny trial, with other top-level tables."""
    return TrialSpec.parsed(contents() | changes, "tiny")


def stand_in(spec):
    """A mean field of plausible numbers."""
    types = spec.cells.types
    names = [arm.name for arm in spec.arms]
    return reference.Reference(
        dict.fromkeys(types, 500.0),
        dict.fromkeys(types, 0.1),
        dict.fromkeys(names, 0.2),
        {name: dict.fromkeys(types, 0.3) for name in names},
    )
