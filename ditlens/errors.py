"""Every exception of ditlens. A message says what happened, why, and what to type next."""

from __future__ import annotations


class DitlensError(Exception):
    """Base class of all errors that ditlens raises on purpose."""


class UnknownAttributeError(DitlensError, ValueError):
    """An attribute or one of its values does not exist in this world."""


class CaptionError(DitlensError, ValueError):
    """A text could not be understood as a caption or an instruction of this world."""


class ImageError(DitlensError, ValueError):
    """A picture could not be read or prepared."""


class ModelError(DitlensError, ValueError):
    """A model could not be found, loaded, or is not of a kind that ditlens knows."""


class SettingError(DitlensError, ValueError):
    """A numerical or named setting is out of its stated range."""


class DescriberError(DitlensError, RuntimeError):
    """A multimodal model gave no usable description."""


class MissingDependencyError(DitlensError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""
