"""Weights in and out: names, files and the networks they belong to."""

from rtj.weights.load import fit_weights, load_weights
from rtj.weights.read import read_weights
from rtj.weights.weight_file import WeightFile

__all__ = ["WeightFile", "fit_weights", "load_weights", "read_weights"]
