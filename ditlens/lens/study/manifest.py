"""The manifest of a study: what it captures, of which prompts and seeds; written once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ditlens.errors import StudyError
from ditlens.files import read_json, write_json
from ditlens.tables import counted, ranges

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a study captures.

    Attributes:
        model: Name of the model.
        fingerprint: Of its weights, adapters and scheduler, see `ditlens.models.identity`.
        prompts: The texts.
        seeds: Seeds, each used with every prompt; of a paired study, the seed of each prompt.
        settings: Everything else that decides the values: sites, steps, passes, reduce, dtype, sampling.
        setup: Number format, adapters and attention of the model in words; the fingerprint has them, too.
        columns: What else is known of every prompt, by name, e.g. which sentence carries it.
    """

    model: str
    fingerprint: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    setup: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """The plan in a few lines; all prompts are in `prompts`."""
        s, count = self.settings, len(self.items)
        seeds = "a seed each" if s.get("paired") else counted(len(self.seeds), "seed")
        steps = "all" if s.get("steps") is None else f"{ranges(s['steps'])} of"
        some = {name: f"{len(numbers)} {name} tokens" for name, numbers in (s.get("tokens") or {}).items()}
        kept = [", ".join(some.values()) or "all tokens", s.get("reduce") or "", s.get("dtype") or ""]
        lines = [
            f"Plan of a study of {self.model}: {counted(len(self.prompts), 'prompt')}, {seeds}: "
            f"{counted(count, 'item')}",
            f"  sites {', '.join(s.get('sites', ()))}",
            f"  steps {steps} {s.get('sampling_steps', 'all')}, passes {', '.join(s.get('passes', ()))}",
            f"  keeps {', '.join(filter(None, kept))}; {'images' if s.get('images') else 'no images'}",
        ]
        return "\n".join(lines + [f"  columns {', '.join(self.columns)}"] * bool(self.columns))

    @property
    def items(self) -> list[tuple[int, int]]:
        """(number of the prompt, seed) of every item, in order."""
        if self.settings.get("paired"):
            return list(enumerate(self.seeds))
        return [(i, seed) for i in range(len(self.prompts)) for seed in self.seeds]

    @property
    def key(self) -> str:
        """Identity: equal for equal values."""
        decisive = [FORMAT, self.fingerprint, self.prompts, self.seeds, self.settings]
        text = json.dumps([*decisive, *([self.columns] if self.columns else [])], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a study.

        Raises:
            StudyError: If there is none, or it is damaged or of another version.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            raise StudyError(
                f"{folder} has no manifest.json. Make one: `ditlens capture --out {folder} ...`."
            )
        data = read_json(path, "the manifest of a study", StudyError)
        try:
            if data.pop("format") != FORMAT:
                raise StudyError(f"{path} is of another version of ditlens; capture the study again.")
            key = data.pop("key")
            manifest = cls(data["model"], data["fingerprint"], tuple(data["prompts"]), tuple(data["seeds"]),
                           data["settings"], data.get("setup", {}), data.get("columns", {}))  # fmt: skip
        except (KeyError, TypeError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else error
            raise StudyError(f"{path} is damaged: {why}. Capture it again in a new folder.") from error
        if key != manifest.key:
            raise StudyError(f"{path} was edited: its key does not match. Restore it, or start a new folder.")
        return manifest

    def begin(self, folder: Path) -> None:
        """Write the manifest, or check that the one there is the same.

        Raises:
            StudyError: If the folder holds another study; the message says where they differ.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            write_json(path, {"format": FORMAT, "key": self.key, **vars(self)})
        elif (there := Manifest.read(folder)).key != self.key:
            raise StudyError(
                f"{folder} holds another study: {', '.join(differences(there, self))} differ. Give a new folder "
                "with --out, or the same settings to resume."
            )


def differences(one: Manifest, other: Manifest) -> list[str]:
    """What differs between two studies, in words."""
    parts = {"fingerprint": "the model's weights, number format, adapters or scheduler", "prompts": "prompts",
             "seeds": "seeds", "columns": "columns"}  # fmt: skip
    found = [words for name, words in parts.items() if getattr(one, name) != getattr(other, name)]
    if one.setup and other.setup:
        found += [f"the model's {name}" for name in _unequal(one.setup, other.setup)]
    return found + _unequal(one.settings, other.settings)


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names under which two mappings hold something else."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
