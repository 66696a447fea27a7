"""Every exception of ditlens. A message says what happened, why, and what to type next."""

from __future__ import annotations

from ditlens.tracebacks import rendered


class DitlensError(Exception):
    """Base class of all errors that ditlens raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show of it."""
        return rendered(self)


class UnknownAttributeError(DitlensError, ValueError):
    """An attribute or one of its values does not exist in this world."""


class CaptionError(DitlensError, ValueError):
    """A text could not be understood as a caption or an instruction of this world."""


class ImageError(DitlensError, ValueError):
    """An image could not be read or prepared."""


class ModelError(DitlensError, ValueError):
    """A model could not be found, loaded, or is not of a kind that ditlens knows."""


class SettingError(DitlensError, ValueError):
    """A numerical or named setting is out of its stated range."""


class NotFittedError(DitlensError, ValueError, AttributeError):
    """What is asked of a PCA, UMAP or the like is known only after ``fit``."""


class WriteError(DitlensError, OSError):
    """A file could not be written; what was there before is unharmed."""


class DescriberError(DitlensError, RuntimeError):
    """A multimodal model gave no usable description."""


class MissingDependencyError(DitlensError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class SiteError(DitlensError, ValueError):
    """A hook point does not exist in this model, or its address cannot be read."""


class ArchitectureError(DitlensError, TypeError):
    """A transformer is of a class whose streams ditlens does not know."""


class CaptureError(DitlensError, RuntimeError):
    """Hidden states could not be captured, or fewer came than the run should have given."""


class BudgetError(DitlensError, MemoryError):
    """A capture would need more memory than it was allowed."""


class InterventionError(DitlensError, RuntimeError):
    """A function at a hook point returned something that cannot take its place."""


class StudyError(DitlensError, OSError):
    """A study on disk is missing, incomplete or damaged."""


class BenchError(DitlensError, OSError):
    """A benchmark's folder or its votes are missing, incomplete or damaged, or a worker of it was killed."""


class SuiteError(DitlensError, ValueError):
    """A suite of edits is missing, damaged, or not in the format that it claims."""
