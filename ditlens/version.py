"""The version, where every part of ditlens may read it."""

__version__ = "0.1.0"
