"""Measure how faults end that were found from outside: `make bench-faults`.

Writes ``benchmarks/results/faults.json`` after every key; with ``--only``, the other keys keep what was measured
last. Most keys count tests: a fault is mended when the tests that hold its right value pass.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from benchmarks import RESULTS, ROOT
from benchmarks.keys import MeasureError, measure_keys
from benchmarks.report import Result
from ditlens.metrics.statistics import wilson

KINDS: dict[str, tuple[str, ...]] = {
    "capturing bends or breaks gradients": ("tests/contracts/test_gradients.py",),
    "step caches and layer skips that are switched on by a function": (
        "tests/contracts/test_step_caches.py",
    ),
    "reference images and cached keys in the streams": (
        "tests/contracts/test_reference_images.py",
        "tests/contracts/test_guidance_passes.py::test_reference_images_of_a_pipeline_are_no_part_of_its_image",
    ),
    "one grid for images of several shapes": (
        "tests/contracts/test_reference_images.py::test_images_of_several_shapes_in_one_call_have_no_common_grid",
        "tests/contracts/test_reference_images.py::test_means_leave_out_what_is_not_the_image_of_a_smaller_item",
    ),
    "short results without a word": (
        "tests/contracts/test_guidance_passes.py::test_steps_that_never_come_are_named",
        "tests/contracts/test_guidance_passes.py::test_errors_name_the_steps_that_came",
    ),
    "passes of another pipeline, or of a loop of one's own": (
        "tests/contracts/test_guidance_passes.py::test_passes_are_those_of_the_pipeline_that_runs",
        "tests/contracts/test_guidance_passes.py::test_a_loop_of_your_own_says_what_its_rows_are",
        "tests/contracts/test_guidance_passes.py::test_a_guider_is_asked_only_while_it_guides",
        "tests/unit/test_calls.py::test_own_calls_of_a_pipelines_transformer_are_not_guessed",
    ),
    "the image is not what was asked for": (
        "tests/unit/test_negations.py",
        "tests/unit/test_captions.py::test_words_that_no_portrait_has_are_named",
        "tests/integration/test_worlds.py::test_what_the_world_cannot_draw_is_said",
        "tests/unit/test_cli.py::test_generate_says_what_cannot_be_drawn",
    ),
    "colours read without their profile": ("tests/unit/test_images.py",),
    "adapters and number formats without an identity": ("tests/unit/test_identity.py",),
    "results that depend on the state of the process": (
        "tests/integration/test_defaults_and_seeds.py",
        "tests/contracts/test_threads.py",
    ),
    "studies that hide what patches show": (
        "tests/unit/test_studies.py::test_a_study_keeps_every_token_unless_it_is_told_otherwise",
        "tests/unit/test_studies.py::test_a_sketch_keeps_the_number_format_and_is_offered_before_the_mean",
        "tests/unit/test_studies.py::test_a_mean_hides_the_smile_that_a_patch_shows",
        "tests/contracts/test_hook_lifetime.py::test_reducing_and_selecting_tokens",
    ),
    "files lost to faults of the file system": (
        "tests/unit/test_write_faults.py",
        "tests/unit/test_files.py",
    ),
    "paths as people give them": (
        "tests/unit/test_user_paths.py",
        "tests/unit/test_cli.py::test_paths_are_read_as_people_give_them",
        "tests/unit/test_cli.py::test_every_path_of_a_command_is_read_by_one_function",
    ),
    "one bad record stops a suite": (
        "tests/unit/test_suites.py",
        "tests/integration/test_bench.py::test_one_bad_record_is_a_row_and_the_others_are_edited",
        "tests/integration/test_bench.py::test_a_record_that_was_repaired_is_edited_by_the_next_run",
    ),
    "copies, pickles and models that are kept alive": ("tests/contracts/test_copies.py",),
    "calls that raised and were repeated, and the compiler's stance": (
        "tests/contracts/test_hook_lifetime.py::test_a_call_that_raised_and_was_repeated_is_captured_whole",
        "tests/contracts/test_hook_lifetime.py::test_a_sampling_loop_that_raised_and_went_on_or_began_again_is_captured_whole",
        "tests/contracts/test_hook_lifetime.py::test_every_draw_of_an_announced_loop_that_began_again_is_captured",
        "tests/contracts/test_hook_lifetime.py::test_a_pass_that_raised_is_not_taken_for_come",
        "tests/contracts/test_hook_lifetime.py::test_a_sampling_loop_that_broke_off_is_a_warning",
        "tests/contracts/test_hook_lifetime.py::test_the_compilers_stance_is_what_it_was_in_whatever_order_contexts_are_left",
    ),
    "results that a console cannot show": (
        "tests/unit/test_cli.py::test_what_a_console_cannot_show_is_an_escape",
        "tests/unit/test_cli.py::test_a_result_that_nobody_can_read",
    ),
    "servers that reason, stream or say nothing": ("tests/unit/test_describers.py",),
    "wrong kinds at public entries": (
        "tests/unit/test_wrong_kinds.py",
        "tests/integration/test_model.py",
    ),
    "commands and pages that do not say enough": (
        "tests/unit/test_doctor.py",
        "tests/unit/test_cli.py::test_help_lists_the_methods",
        "tests/unit/test_cli.py::test_a_benchmark_that_is_not_named",
        "tests/unit/test_votes.py",
        "tests/unit/test_bench_page.py",
        "tests/unit/test_statistics.py",
        "tests/unit/test_store.py",
    ),
    "grids from position ids, and the name of perturbed attention": (
        "tests/contracts/test_reference_images.py::test_positions_of_a_packed_sequence_give_a_grid",
        "tests/unit/test_calls.py::test_guiders",
        "tests/contracts/test_step_caches.py::test_an_attention_that_a_guider_perturbs_is_not_captured",
    ),
    "instructions in other people's words": (
        "tests/unit/test_wishes.py",
        "tests/unit/test_instructions.py",
        "tests/unit/test_describer.py",
    ),
    "files overwritten": (
        "tests/unit/test_cli.py::test_an_input_is_never_overwritten",
        "tests/unit/test_cli.py::test_other_files_are_overwritten_with_force_only",
        "tests/integration/test_edit.py::test_what_an_edit_was_made_from_is_never_overwritten",
        "tests/integration/test_edit.py::test_a_mask_that_was_read_is_never_overwritten",
        "tests/integration/test_bench.py::test_a_folder_of_somebody_else_is_left_alone",
    ),
    "odd images": (
        "tests/unit/test_images.py::test_grey_with_alpha_is_read_as_its_rgba_twin",
        "tests/unit/test_images.py::test_arrays",
        "tests/unit/test_images.py::test_arrays_that_are_no_images",
        "tests/unit/test_images.py::test_open_files",
        "tests/unit/test_images.py::test_bytes_in_a_tensor_are_bytes",
        "tests/unit/test_cli.py::test_what_is_no_path_is_wrong_usage",
    ),
    "wrong arguments of edits": (
        "tests/unit/test_refusals.py",
        "tests/unit/test_judge.py",
        "tests/integration/test_edit.py::test_what_is_not_used_is_said",
    ),
    "drift that hides a residual": (
        "tests/integration/test_bench.py::test_the_exact_result_has_no_residual_and_no_drift_of_its_own",
        "tests/unit/test_bench_edit.py",
        "tests/unit/test_plain.py::test_ems_lands_where_the_target_text_says",
    ),
    "a distance that does not answer": ("tests/unit/test_bench_model.py::test_the_frechet_distance_answers",),
}
"""Every kind of fault in plain words -> the tests that hold it: files or node ids for pytest, relative to the root.

A kind is mended if each of its lines selects at least one test and all tests that they select pass.
"""

HELD_OUT = ROOT / "benchmarks" / "portraits" / "wishes_held_out.jsonl"
"""Wishes in other people's words that the lexicon was not written from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 if something could not be measured."""
    return measure_keys(
        RESULTS / "faults.json", MEASURES, "Measure how faults end that were found from outside.", argv
    )


# --- tests -------------------------------------------------------------------------------------------------


def outcomes(*paths: str) -> dict[str, bool]:
    """Run tests, slow ones too; the id of each, and whether it passed. What was skipped says nothing.

    Raises:
        MeasureError: If a file is missing or pytest could not run.
    """
    for path in paths:
        if not (ROOT / path.partition("::")[0]).is_file():
            raise MeasureError(f"there is no {path.partition('::')[0]}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider",
             "-m", "slow or not slow", f"--junitxml={report}", *paths],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode not in (0, 1):  # 1: tests failed
            raise MeasureError(
                f"pytest {' '.join(paths)} left with {done.returncode}:\n{done.stdout[-2000:]}"
            )
        cases = list(ElementTree.parse(report).iter("testcase"))
    return {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}":
            case.find("failure") is None and case.find("error") is None
        for case in cases if case.find("skipped") is None
    }  # fmt: skip


def failures(path: str, what: str) -> Result:
    """How many tests of a file fail, of how many; `what` says what a test stands for."""
    found = outcomes(path)
    failed = [name for name, passed in found.items() if not passed]
    note = f"tests of {path} that fail: {what}"
    return {
        "value": len(failed),
        "n": len(found),
        "unit": "failures",
        "note": note,
        "parts": {"failed": failed},
    }


def kinds_fixed() -> Result:
    """Kinds of `KINDS` whose tests all pass."""
    if not KINDS:
        raise MeasureError("the table KINDS of benchmarks/faults.py is empty")
    found = outcomes(*dict.fromkeys(name for names in KINDS.values() for name in names))
    parts = {kind: all(passes(found, name) for name in names) for kind, names in KINDS.items()}
    open_ = [kind for kind, fixed in parts.items() if not fixed]
    note = f"kinds of faults whose tests all pass; not yet: {', '.join(open_) or 'none'}"
    return {"value": sum(parts.values()) / len(parts), "n": len(parts), "unit": "share", "note": note,
            "parts": parts}  # fmt: skip


def passes(found: dict[str, bool], name: str) -> bool:
    """Whether a line of `KINDS` selects at least one of the tests that ran, and all that it selects passed."""
    chosen = [ok for test, ok in found.items() if test == name or test.startswith((f"{name}::", f"{name}["))]
    return bool(chosen) and all(chosen)


# --- wishes ------------------------------------------------------------------------------------------------


def wishes(key: str) -> Result:
    """Wishes that the lexicon was not written from: the share understood, or how many are silently misread."""
    from benchmarks.portraits.wishes import score

    if not HELD_OUT.is_file():
        raise MeasureError(f"there is no {HELD_OUT.relative_to(ROOT).as_posix()}")
    found = score(HELD_OUT)
    count = found.feasible + found.infeasible
    if key == "wishes_misread":
        note, parts = "wishes that came to something else", {"wishes": [case.wish for case in found.misread]}
        return {"value": len(found.misread), "n": count, "unit": "wishes", "note": note, "parts": parts}
    low, high = wilson(found.understood, found.feasible)
    note = (
        "of the wishes that the world can draw: all that is wanted is reached and nothing else changes; "
        f"{len(found.refused)} are refused; {found.refused_rightly} of {found.infeasible} others are refused with "
        "a suggestion"
    )
    return {"value": found.understood / found.feasible, "low": low, "high": high, "n": found.feasible,
            "unit": "share", "note": note, "parts": {"refused": [case.wish for case in found.refused]}}  # fmt: skip


# --- edits and captures ------------------------------------------------------------------------------------


def residual_ratio() -> Result:
    """What an edit leaves to the exact target, above the autoencoder's share: EMS over the best baseline."""
    from benchmarks.edit import measure_residual

    return measure_residual()


def overhead() -> Result:
    """What capturing costs, as `make bench-capture` measures it."""
    from benchmarks import capture

    try:
        return capture.overhead_cpu(SimpleNamespace(**capture.COUNTS))["overhead_cpu_ratio"]
    except RuntimeError as error:
        raise MeasureError(str(error)) from error


MEASURES: dict[str, Callable[[], Result]] = {
    "kinds_fixed": kinds_fixed,
    "checkpoint_failures": partial(
        failures, "tests/contracts/test_gradients.py",
        "a class and an option of a capture under which gradients change, with checkpointing or without",
    ),
    "raw_errors": partial(
        failures, "tests/unit/test_wrong_kinds.py", (
            "a public entry that answers a wrong kind with a raw error; one test gives 28 wrong values to every "
            "argument of about 60 entries"
        )
    ),
    "lost_under_faults": partial(
        failures, "tests/unit/test_write_faults.py", "a writer that loses something or leaves half a file"
    ),
    "negations_wrong": partial(
        failures, "tests/unit/test_negations.py", "a negated wish that becomes the opposite edit"
    ),
    "wishes_understood": partial(wishes, "wishes_understood"),
    "wishes_misread": partial(wishes, "wishes_misread"),
    "ems_residual_ratio": residual_ratio,
    "overhead_cpu_ratio": overhead,
}  # fmt: skip
"""Every key, and how it is measured."""

if __name__ == "__main__":
    sys.exit(main())
