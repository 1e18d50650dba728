"""The parts of the lab's experiments for tests: the same that the command line gives them."""

from __future__ import annotations

from preferent.lab.experiments.outcome import Parts
from preferent.lab.ngrams import NgramTrainer
from preferent.optimize import monitor, shaping


def parts() -> Parts:
    return Parts(NgramTrainer(), shaping.par, shaping.tilt, monitor.stop)
