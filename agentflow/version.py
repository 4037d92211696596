"""The version of this package: a leaf, so that whoever says it imports nothing else."""

__version__ = "0.1.0"
