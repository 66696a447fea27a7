"""Count the votes of a rating: win rates, strengths, agreement, consistency."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ditlens.bench.folder import BenchFolder, read_folder
from ditlens.bench.rating import files
from ditlens.bench.rating.ballots import SOURCE, VOTER, Comparison
from ditlens.errors import BenchError
from ditlens.metrics.statistics import bradley_terry, krippendorff_alpha, middle, resampled_sums, win_rates
from ditlens.tables import columns, counted

FEW_VOTERS = 5
"""With fewer voters, intervals are over votes: they hold for these voters only."""

RULE = (
    "A voter who answered more than one in three attention checks wrongly is left out. Right is: 'same' to both "
    "questions for the source beside itself; the upright image keeps the rest better than the upside-down one."
)

SHOWN = {"win_rate": ".0%", "strength": ".2f"}
TROUBLES = {"unreadable": "could not be read", "doubled": "were second votes on a pair"}
SIGN = {"left": 1.0, "same": 0.0, "right": -1.0}


@dataclass(frozen=True)
class Vote:
    """One answered pair."""

    voter: str
    pair: Comparison
    answers: dict[str, str]

    def score(self, question: str) -> float:
        """1 if the method that comes first in the alphabet won, 0 for same, -1 if it lost."""
        sign = SIGN[self.answers[question]]
        return sign if self.pair.left < self.pair.right else -sign

    @property
    def subject(self) -> tuple[str, float, str, str]:
        """What was compared, regardless of sides."""
        return (self.pair.item, self.pair.degree, *sorted((self.pair.left, self.pair.right)))  # type: ignore[return-value]


def tally(folder: str | Path | BenchFolder, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Count all votes in `votes/*.jsonl`: those of the server, and downloads from the page without one.

    Args:
        folder: What `ditlens bench edit --out` wrote, with votes.
        resamples: Bootstrap resamples for the 95 % intervals.
        seed: Seed of the bootstrap.

    Returns:
        voters, votes, excluded (who, and how many checks were wrong), the rule of exclusion, unreadable and
        doubled (lines that did not count), and for each question under `questions`: methods (win rate and
        Bradley-Terry strength with intervals), agreement, consistency and left_share.

    Raises:
        BenchError: If there are no votes, or the folder is damaged.
    """
    bench = read_folder(folder)
    votes, unreadable, doubled = read_votes(bench)
    checks = checks_of(votes)
    excluded = {voter: checks[voter] for voter in checks if 3 * checks[voter][0] > checks[voter][1]}
    kept = [vote for vote in votes if vote.voter not in excluded]
    return {
        "voters": len({vote.voter for vote in kept}),
        "votes": sum(not vote.pair.is_check for vote in kept),
        "excluded": [{"voter": v, "wrong": wrong, "checks": n} for v, (wrong, n) in excluded.items()],
        "rule": RULE,
        "unreadable": unreadable,
        "doubled": doubled,
        "questions": {q: question_result(kept, q, resamples, seed) for q in files.QUESTIONS},
    }


def report(found: Mapping[str, Any]) -> str:
    """The count as text and tables.

    Args:
        found: What `tally` returned.
    """
    lines = [f"{counted(found['votes'], 'vote')} of {counted(found['voters'], 'voter')}"]
    if found["excluded"]:
        lines.append(f"{counted(len(found['excluded']), 'voter')} left out. {RULE}")
    lines += [f"{found[k]} lines {why}" for k, why in TROUBLES.items() if found[k]]
    for question, result in found["questions"].items():
        if not result["methods"]:
            continue
        rows = [
            (
                name,
                *(f"{r[k]['value']:{f}} ({r[k]['low']:{f}} to {r[k]['high']:{f}})" for k, f in SHOWN.items()),
            )
            for name, r in result["methods"].items()
        ]
        lines += ["", f"{files.QUESTIONS[question]} (intervals {result['interval']})"]
        lines.append(columns(rows, ("method", "win rate", "Bradley-Terry strength")))
        alpha, same = result["agreement"]["alpha"], result["consistency"]
        told = [
            f"agreement of voters (alpha) {alpha:.2f}" if alpha is not None else result["agreement"]["note"]
        ]
        told += [f"same answer to a repeated pair {same['value']:.0%} of {same['n']}"] if same else []
        lines.append("; ".join(told))
    return "\n".join(lines)


# --- reading -------------------------------------------------------------------------------------------------


def read_votes(bench: BenchFolder) -> tuple[list[Vote], int, int]:
    """All votes; how many lines could not be read; and how many were votes on a pair voted on before.

    Raises:
        BenchError: If there is no vote.
    """
    keys, folder = _keys(bench), files.votes_folder(bench)
    votes: dict[tuple[str, int], Vote] = {}
    unreadable = doubled = 0
    for line in chain.from_iterable(map(files.read_lines, sorted(folder.glob("*.jsonl")))):
        vote = _vote(line, keys, bench)
        if vote is None:
            unreadable += 1
        elif votes.setdefault((vote.voter, vote.pair.number), vote) is not vote:
            doubled += 1
    if not votes:
        lines = f"{unreadable} lines in it could not be read" if unreadable else "it has no lines of votes"
        raise BenchError(
            f"There are no votes in {folder}: {lines}. Collect some with ditlens bench vote, or put the files "
            "there that your voters downloaded; theirs need the key-*.json that ditlens bench export wrote."
        )
    return list(votes.values()), unreadable, doubled


def _keys(bench: BenchFolder) -> dict[str, list[list[Comparison]]]:
    """The pairs of every exported ballot, by the name of the export."""
    keys = {}
    for path in sorted(files.votes_folder(bench).glob("key-*.json")):
        try:
            data = json.loads(path.read_text("utf-8"))
            keys[str(data["export"])] = [[Comparison(**pair) for pair in pairs] for pairs in data["ballots"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(
                f"{path} is damaged: {error}. Restore the copy that ditlens bench export wrote."
            ) from error
    return keys


def _vote(line: Any, keys: dict[str, list[list[Comparison]]], bench: BenchFolder) -> Vote | None:
    """A line as a vote; None if it is damaged, or its ballot is not known."""
    try:
        pair = _pair(line, keys)
        vote = Vote(line["voter"], pair, files.answers_of(line))
        known = pair.is_check or (pair.left != pair.right and {pair.left, pair.right} <= set(bench.methods))
        return vote if known and pair.item in bench.items and VOTER.fullmatch(vote.voter) else None
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _pair(line: dict[str, Any], keys: dict[str, list[list[Comparison]]]) -> Comparison:
    """The pair of a line: written in it by the server, or looked up in the key of its export."""
    if "export" not in line:
        return Comparison(**{name: line[name] for name in Comparison.__dataclass_fields__})
    ballot, pair = line["ballot"], line["pair"]
    if not all(type(index) is int and index >= 0 for index in (ballot, pair)):
        raise ValueError("a ballot and a pair are counted from 0")
    return keys[line["export"]][ballot][pair]


def checks_of(votes: Iterable[Vote]) -> dict[str, tuple[int, int]]:
    """For every voter with checks: how many were answered wrongly, and how many there were."""
    passed: dict[str, list[bool]] = defaultdict(list)
    for vote in votes:
        if vote.pair.is_check:
            passed[vote.voter].append(check_passed(vote))
    return {voter: (found.count(False), len(found)) for voter, found in passed.items()}


def check_passed(vote: Vote) -> bool:
    """Whether an attention check was answered as `RULE` says."""
    if vote.pair.role == "twins":
        return set(vote.answers.values()) == {"same"}
    upright = "left" if vote.pair.left == SOURCE else "right"
    return vote.answers["keeps"] == upright


# --- counting ------------------------------------------------------------------------------------------------


def question_result(votes: list[Vote], question: str, resamples: int, seed: int) -> dict[str, Any]:
    """Everything about one question. Repeats count for consistency only, checks for nothing."""
    rated = [vote for vote in votes if vote.pair.role in ("new", "shared")]
    methods = sorted({name for vote in rated for name in (vote.pair.left, vote.pair.right)})
    if not methods:
        return {"methods": {}, "agreement": None, "consistency": None, "left_share": None}
    sides = Counter(vote.answers[question] for vote in rated)
    decided = sides["left"] + sides["right"]
    return {
        "methods": method_results(rated, question, methods, resamples, seed),
        "interval": "over voters" if _many(rated) else f"over votes: fewer than {FEW_VOTERS} voters",
        "agreement": agreement(rated, question),
        "consistency": consistency(votes, question),
        "left_share": {"value": sides["left"] / decided, "n": decided} if decided else None,
    }


def method_results(
    votes: list[Vote], question: str, methods: list[str], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Win rate and strength of every method, strongest first."""
    blocks = _blocks(votes, question, methods)  # (voters or votes, methods, methods)
    samples = resampled_sums(blocks, resamples, seed)  # (resamples, methods, methods)
    wins = blocks.sum(0)
    rates, strengths = win_rates(wins), bradley_terry(wins)
    rate_samples, strength_samples = win_rates(samples), bradley_terry(samples, steps=200, tolerance=1e-4)
    result = {}
    for i in np.argsort(-strengths, kind="stable"):
        rate_low, rate_high = middle(rate_samples[:, i])
        low, high = middle(strength_samples[:, i])
        result[methods[i]] = {
            "win_rate": {"value": float(rates[i]), "low": rate_low, "high": rate_high,
                         "n": round(float(wins[i].sum() + wins[:, i].sum()))},
            "strength": {"value": float(strengths[i]), "low": low, "high": high},
        }  # fmt: skip
    return result


def _many(votes: list[Vote]) -> bool:
    return len({vote.voter for vote in votes}) >= FEW_VOTERS


def _blocks(votes: list[Vote], question: str, methods: list[str]) -> np.ndarray:
    """What the bootstrap resamples: the wins of every voter or, where voters are few, of every vote."""
    place = {name: i for i, name in enumerate(methods)}
    owners = [vote.voter for vote in votes] if _many(votes) else list(range(len(votes)))
    index = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
    blocks = np.zeros((len(index), len(methods), len(methods)))
    for owner, vote in zip(owners, votes, strict=True):
        left, right = place[vote.pair.left], place[vote.pair.right]
        won = (1 + SIGN[vote.answers[question]]) / 2
        blocks[index[owner], left, right] += won
        blocks[index[owner], right, left] += 1 - won
    return blocks


def agreement(votes: list[Vote], question: str) -> dict[str, Any]:
    """Krippendorff's alpha over the pairs that several voters saw; a lost, tied or won pair is -1, 0 or 1."""
    units: dict[tuple[str, float, str, str], dict[str, float]] = defaultdict(dict)
    for vote in votes:
        units[vote.subject].setdefault(vote.voter, vote.score(question))
    seen = [list(unit.values()) for unit in units.values() if len(unit) > 1]
    result: dict[str, Any] = {"alpha": krippendorff_alpha(seen), "pairs": len(seen)}
    if result["alpha"] is None:
        result["note"] = "no pair was seen by two voters" if not seen else "every answer was the same"
    return result


def consistency(votes: list[Vote], question: str) -> dict[str, Any] | None:
    """How often a voter gave the same answer to a repeated pair, sides swapped; by chance about one in three."""
    first = {
        (vote.voter, vote.subject): vote.score(question)
        for vote in votes
        if vote.pair.role in ("new", "shared")
    }
    same = [
        vote.score(question) == first[vote.voter, vote.subject]
        for vote in votes
        if vote.pair.role == "repeat" and (vote.voter, vote.subject) in first
    ]
    return {"value": sum(same) / len(same), "n": len(same)} if same else None
