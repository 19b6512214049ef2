"""What small students retain: retention against size, as a table and a Pareto chart, from finished runs.

    stillroom submit specs/results/frontier-ncbi-disease.yaml && stillroom worker --drain
    python -m benchmarks.frontier specs/results/frontier-ncbi-disease.yaml [--json | --markdown] [--chart FILE.png]
        [--record docs/figures/frontier-ncbi-disease.json]

Steps named <student>-taught had a teacher; <student>-alone are the same student fine-tuned without one; a suffix -s<N>
is another seed. Scores come from the newest succeeded job of each step. Speeds are measured now, with the teacher and
the students in turn on the same test sentences. "ours" and "peer" are the seconds of student and teacher.

Runs need not be on one machine: --record writes a row for each finished step to a file, replacing an older row of that
step, and table and chart are then drawn from all rows of the file.
"""

import argparse
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from trainer import chain, datasets, inference, models, queue
from trainer.files import write_file
from trainer.markdown import inline
from trainer.queue import Job
from trainer.run import Run
from trainer.spec import JobSpec
from trainer.training import loop
from workbench.launch.submission import resolve_references

SENTENCES = 240  # on which speeds are measured
Row = dict[str, Any]  # a step's figures, as they are recorded in JSON
NAME = re.compile(r"(?P<student>.+)-(?P<kind>taught|alone)(-s\d+)?")


def finished(path: Path) -> dict[str, Job]:
    """The newest succeeded job of each step of a chain file whose name matches NAME."""
    done: dict[str, Job] = {}
    for job in queue.jobs(limit=10_000):  # newest first
        if job.state == "succeeded":
            done.setdefault(JobSpec.model_validate(job.spec).digest, job)
    steps = chain.read(path)
    if not isinstance(steps, chain.Chain):
        raise SystemExit(f"{path} is a single job, not a chain.")
    by_step, ids = dict[str, Job](), dict[str, str]()
    for step in steps.each(resolve_references).steps:
        earlier = [each.name for each in step.spec.references("model")]
        if not all(name[1:] in ids for name in earlier if name.startswith("@")):
            continue  # it depends on a step that has not succeeded
        if succeeded := done.get(step.bound(ids).digest):
            ids[step.name] = succeeded.id
            if NAME.fullmatch(step.name):
                by_step[step.name] = succeeded
    return by_step


def speeds(references: Mapping[str, str], dataset: str, *, rounds: int) -> dict[str, float]:
    """Median seconds of each model on the same test sentences, one after the other in every round."""
    words = [sentence.words for sentence in datasets.load(dataset, "test", limit=SENTENCES)]
    loaded = {name: models.load(reference) for name, reference in references.items()}

    sides = {name: partial(inference.tag_words, words, *pair) for name, pair in loaded.items()}
    return measure.interleaved(sides, rounds=rounds)


def measure_rows(jobs: Mapping[str, Job], *, rounds: int) -> list[Row]:
    """A row for each finished step: the scores of its run, and for a taught student its seconds and its teacher's."""
    students = {_parse(step)["student"]: job.id for step, job in reversed([*jobs.items()]) if job.spec["teacher"]}
    seconds: dict[str, float] = {}
    if students:  # a chain has one teacher and one data set
        taught = next(job for job in jobs.values() if job.spec["teacher"])
        seconds = speeds({"teacher": taught.spec["teacher"], **students}, taught.spec["dataset"], rounds=rounds)
    return [_row(step, job, seconds if job.spec["teacher"] else {}) for step, job in jobs.items()]


def _parse(step: str) -> re.Match[str]:
    match = NAME.fullmatch(step)
    assert match, f"{step} is not the name of a student's step"
    return match


def _row(step: str, job: Job, seconds: Mapping[str, float]) -> Row:
    assert job.artifact, f"{step} has succeeded with a model"
    run = Run(Path(job.artifact).parents[1])
    result = run.result
    assert result, f"{step} has succeeded"
    spec, report = JobSpec.model_validate(job.spec), result.report
    return {
        "name": step,
        "params": report["cost"]["params"],
        "f1": job.metrics["test_f1"],
        "interval": report["intervals"]["f1"],
        "teacher_f1": job.metrics.get("teacher_test_f1"),
        "retention": job.metrics.get("retention"),
        "seconds": seconds.get(_parse(step)["student"]),
        "teacher_seconds": seconds.get("teacher"),
        "seed": spec.seed,
        "precision": loop.number_format(torch.device(run.spec.device), spec.compute.precision),
        "digest": spec.digest,
    }


def record(rows: Sequence[Row], path: Path) -> list[Row]:
    """Write the rows to a file, replacing older ones of the same steps; all rows of the file, by name."""
    by_name: dict[str, Row] = {row["name"]: row for row in json.loads(path.read_bytes())} if path.exists() else {}
    by_name |= {row["name"]: row for row in rows}
    all_rows = [by_name[name] for name in sorted(by_name)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (json.dumps(all_rows, indent=1) + "\n").encode())
    return all_rows


def cases(rows: Sequence[Row]) -> list[Row]:
    """One case per taught student with all its seeds, the largest student first."""
    by_kind = defaultdict[tuple[str, str], list[Row]](list)
    for row in rows:
        name = _parse(row["name"])
        by_kind[name["student"], name["kind"]].append(row)
    taught = [student for student, kind in by_kind if kind == "taught"]
    results = [_case(student, by_kind[student, "taught"], by_kind[student, "alone"]) for student in taught]
    return sorted(results, key=lambda case: -case["params"])


def _case(student: str, taught: Sequence[Row], alone: Sequence[Row]) -> Row:
    first, scores = min(taught, key=lambda row: row["seed"]), [row["f1"] for row in taught]
    others = [row["f1"] for row in alone]
    return {
        "name": student,
        "ours": first["seconds"],
        "peer": first["teacher_seconds"],
        "ratio": first["teacher_seconds"] / first["seconds"],
        "equal": None,
        "limit_share": None,
        "params": first["params"],
        "f1": statistics.mean(scores),
        "f1_by_seed": scores,
        "interval": first["interval"],
        "teacher_f1": first["teacher_f1"],
        "retention": statistics.mean(row["retention"] for row in taught),
        "alone_f1": statistics.mean(others) if others else None,
    }


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/results.md."""
    lines = [
        "| student | parameters | test F1 [95 % interval, seed 1] | seeds | retention | speed | without a teacher |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        alone = f"{row['alone_f1']:.3f}" if row["alone_f1"] else "not run"
        lines.append(
            f"| {inline(row['name'])} | {row['params'] / 1e6:.1f} M | {row['f1']:.3f} [{low:.3f}, {high:.3f}] | "
            f"{len(row['f1_by_seed'])} | {row['retention']:.1%} | {row['ratio']:.1f} x | {alone} |"
        )
    return "\n".join(lines)


def best(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (size, score), smallest first: points that no other of the same or a smaller size equals."""
    front: list[tuple[float, float]] = []
    for size, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((size, score))
    return front


def chart(rows: Sequence[Row], path: Path, *, title: str) -> None:
    """The same as a picture: share of the teacher's F1 against parameters, with and without the teacher."""
    from matplotlib import pyplot, ticker  # comes with captum

    figure, axes = pyplot.subplots(figsize=(7, 4.4), dpi=150)
    both = [row for row in rows if row["alone_f1"]]
    for chosen, score, marker, line, label in (
        (rows, "f1", "o", "-", "taught; the line: best for its size"),
        (both, "alone_f1", "s", "--", "the same student without a teacher"),
    ):
        if points := [(row["params"] / 1e6, 100 * row[score] / row["teacher_f1"]) for row in chosen]:
            (dots,) = axes.plot(*zip(*points, strict=True), marker, label=label)
            axes.plot(*zip(*best(points), strict=True), line, color=dots.get_color())
    axes.axhline(98.8, color="grey", linewidth=0.8, linestyle=":", label="98.8 % (the papers' best)")
    for number, row in enumerate(sorted(rows, key=lambda row: row["params"])):  # neighbours above and below in turn
        place, above = (row["params"] / 1e6, 100 * row["retention"]), number % 2 == 0
        offset, side = ((0, 7), "bottom") if above else ((0, -7), "top")
        axes.annotate(row["name"], place, textcoords="offset points", xytext=offset, ha="center", va=side, fontsize=7)
    axes.set(xscale="log", xlabel="Parameters (millions, log scale)", ylabel="Share of the teacher's test F1 (%)")
    axes.xaxis.set_major_locator(ticker.FixedLocator((1, 2, 3, 5, 7, 10, 15, 20)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.margins(x=0.08, y=0.1)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chain", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    measured = measure_rows(finished(chosen.chain), rounds=chosen.rounds)
    rows = cases(record(measured, chosen.record) if chosen.record else measured)
    if not rows:
        raise SystemExit(f"No taught step of {chosen.chain} has succeeded. Submit it and run a worker first.")
    if chosen.chart:
        chart(rows, chosen.chart, title=f"{chosen.chain.stem.removeprefix('frontier-')}: what students keep")
    if chosen.markdown:
        print(markdown(rows))
    else:
        measure.show(rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
