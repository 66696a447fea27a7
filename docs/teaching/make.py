"""Write what the lessons know into the docs: ``python docs/teaching/make.py``.

``exercises.md``: of every notebook its exercises, the wrong ideas that their checks know, questions to discuss, and
what goes wrong. And the table of notebooks in the README and in this folder's.
"""

from __future__ import annotations

import re
from pathlib import Path

from ditlens.course.exercise import Exercise, Lesson
from ditlens.course.lessons import LESSONS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TABLE = re.compile(r"(<!-- notebooks -->\n).*?(<!-- end -->)", re.S)


def table(folder: str) -> str:
    """All notebooks with minutes, exercises and goal."""
    rows = [
        f"| [{each.number} · {each.title}]({folder}{each.stem}.ipynb) "
        f"| {each.minutes} | {len(each.exercises)} | {each.goal} |"
        for each in LESSONS.values()
    ]
    minutes = sum(each.minutes for each in LESSONS.values())
    count = sum(len(each.exercises) for each in LESSONS.values())
    rows.append(f"| together | {minutes // 60} h {minutes % 60:02} | {count} | |")
    return "\n".join(
        ["| notebook | minutes | exercises | what it is about |", "|---|---|---|---|", *rows, ""]
    )


def about(exercise: Exercise) -> list[str]:
    """One exercise for a teacher."""
    answer = "a function" if callable(exercise.example) else f"`{exercise.example!r}`"
    if "namespace" in answer or " object at " in answer:
        answer = exercise.takes
    return [
        f"### {exercise.id} · {exercise.title} {exercise.stars}",
        "",
        f"**Answer**: {answer}. {exercise.praise}",
        "",
        "Wrong ideas, and what the check says of each:",
        "",
        *(f"- {idea.says}" for idea in exercise.ideas),
        "",
    ]


def chapter(lesson: Lesson) -> list[str]:
    """One notebook for a teacher."""
    lines = [f"## {lesson.number} · {lesson.title}", "", f"{lesson.goal} {lesson.minutes} minutes.", ""]
    for exercise in lesson.exercises:
        lines += about(exercise)
    if lesson.discuss:
        lines += ["### To discuss", ""]
        lines += [f"- **{question}** {expected}" for question, expected in lesson.discuss]
        lines.append("")
    if lesson.trouble:
        lines += ["### What goes wrong", "", *(f"- {each}" for each in lesson.trouble), ""]
    return lines


def pages() -> dict[Path, str]:
    """Every file that is written here, with its content."""
    text = [
        "# Exercises, answers and misconceptions",
        "",
        "Written by `python docs/teaching/make.py` from the checks themselves. An answer that is a number is that",
        "of the shipped model and, where it is measured, is taken with a tolerance. Solutions as code:",
        "`make course`, or `ditlens course DIR --edition solution`.",
        "",
    ]
    for lesson in LESSONS.values():
        text += chapter(lesson)
    found = {HERE / "exercises.md": "\n".join(text)}
    tables = (
        (ROOT / "README.md", "notebooks/"),
        (ROOT / "notebooks" / "README.md", ""),
        (HERE / "README.md", "../../notebooks/"),
    )
    for path, folder in tables:
        new = f"\\g<1>{table(folder)}\\g<2>"
        found[path] = TABLE.sub(new, path.read_text("utf-8"))
    return found


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
