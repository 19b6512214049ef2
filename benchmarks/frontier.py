"""What small students keep: retention against size, as a table and a Pareto chart, out of finished runs.

    stillroom submit specs/results/frontier-ncbi-disease.yaml && stillroom worker --drain
    python -m benchmarks.frontier specs/results/frontier-ncbi-disease.yaml [--json] [--chart FILE.png]

Steps named <student>-taught had a teacher, <student>-alone are the same student fine-tuned without one; a suffix -s<N>
is another seed. Scores come from the newest succeeded job of each step; speeds are measured now, the teacher and the
students in turn on the same test sentences. "ours" and "peer" are the seconds of student and teacher.
"""

import argparse
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks import measure
from trainer import chain, datasets, inference, models, queue
from trainer.queue import Job
from trainer.run import Run
from trainer.spec import JobSpec
from workbench.submission import settled

SENTENCES = 240  # that speeds are measured on
NAME = re.compile(r"(?P<student>.+)-(?P<kind>taught|alone)(-s\d+)?")


def finished(path: Path) -> dict[str, list[Job]]:
    """The newest succeeded job of each step of a chain file, by `student-kind`; seeds of one student together."""
    done: dict[str, Job] = {}
    for job in queue.jobs(limit=10_000):  # newest first
        if job.state == "succeeded":
            done.setdefault(JobSpec.model_validate(job.spec).digest, job)
    found, ids = defaultdict(list), {}
    for step in chain.read(path).each(settled).steps:
        name, earlier = NAME.fullmatch(step.name), chain.references(step.spec.model_dump(mode="json")).values()
        if not all(said[1:] in ids for said in earlier if said.startswith("@")):
            continue  # it waits for a step that has not succeeded
        if job := done.get(step.bound(ids).digest):
            ids[step.name] = job.id
            if name:
                found[f"{name['student']}-{name['kind']}"].append(job)
    return found


def speeds(references: Mapping[str, str], dataset: str, *, rounds: int) -> dict[str, float]:
    """Median seconds of each model on the same test sentences, one after the other in every round."""
    words = [sentence.words for sentence in datasets.load(dataset, "test", limit=SENTENCES)]
    loaded = {name: models.load(reference) for name, reference in references.items()}

    def tagging(model, tokenizer):
        return lambda: inference.tag_words(words, model, tokenizer)

    return measure.interleaved({name: tagging(*pair) for name, pair in loaded.items()}, rounds=rounds)


def cases(path: Path, *, rounds: int) -> list[dict]:
    """One case a taught student, the largest first."""
    jobs = finished(path)
    taught = {name.removesuffix("-taught"): found for name, found in jobs.items() if name.endswith("-taught")}
    if not taught:
        raise SystemExit(f"No step of {path} has succeeded. Submit it and run a worker first.")
    first = next(iter(taught.values()))[0]
    teacher, dataset = first.spec["teacher"], first.spec["dataset"]
    seconds = speeds(
        {"teacher": teacher, **{name: found[0].id for name, found in taught.items()}}, dataset, rounds=rounds
    )
    rows = [_case(name, found, jobs.get(f"{name}-alone", []), seconds) for name, found in taught.items()]
    return sorted(rows, key=lambda row: -row["params"])


def _case(name: str, taught: Sequence[Job], alone: Sequence[Job], seconds: Mapping[str, float]) -> dict:
    scores = [job.metrics["test_f1"] for job in taught]
    teacher = taught[0].metrics["teacher_test_f1"]
    report = Run(Path(taught[0].artifact).parents[1]).result.report
    others = [job.metrics["test_f1"] for job in alone]
    return {
        "name": name,
        "ours": seconds[name],
        "peer": seconds["teacher"],
        "ratio": seconds["teacher"] / seconds[name],
        "equal": None,
        "limit_share": None,
        "params": report["cost"]["params"],
        "f1": statistics.mean(scores),
        "f1_by_seed": scores,
        "interval": report["intervals"]["f1"],
        "teacher_f1": teacher,
        "retention": statistics.mean(scores) / teacher,
        "alone_f1": statistics.mean(others) if others else None,
    }


def markdown(rows: Sequence[Mapping]) -> str:
    """The table of docs/results.md."""
    lines = [
        "| student | parameters | test F1 [95 % interval, seed 1] | seeds | retention | speed | without a teacher |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        alone = f"{row['alone_f1']:.3f}" if row["alone_f1"] else "not run"
        lines.append(
            f"| {row['name']} | {row['params'] / 1e6:.1f} M | {row['f1']:.3f} [{low:.3f}, {high:.3f}] | "
            f"{len(row['f1_by_seed'])} | {row['retention']:.1%} | {row['ratio']:.1f} x | {alone} |"
        )
    return "\n".join(lines)


def chart(rows: Sequence[Mapping], path: Path, *, title: str) -> None:
    """The same as a picture: share of the teacher's F1 against parameters, with and without the teacher."""
    from matplotlib import pyplot  # comes with captum

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=150)
    both = [row for row in rows if row["alone_f1"]]
    for chosen, score, style, label in ((rows, "f1", "o-", "taught"), (both, "alone_f1", "s--", "without a teacher")):
        shares = [100 * row[score] / row["teacher_f1"] for row in chosen]
        axes.plot([row["params"] / 1e6 for row in chosen], shares, style, label=label)
    axes.axhline(98.8, color="grey", linewidth=0.8, linestyle=":", label="98.8 % (the papers' best)")
    for row in rows:
        place = (row["params"] / 1e6, 100 * row["retention"])
        axes.annotate(row["name"], place, textcoords="offset points", xytext=(4, 6), fontsize=7)
    axes.set(xscale="log", xlabel="Parameters (millions, log scale)", ylabel="Share of the teacher's test F1 (%)")
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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = cases(chosen.chain, rounds=chosen.rounds)
    if chosen.chart:
        chart(rows, chosen.chart, title=f"{chosen.chain.stem.removeprefix('frontier-')}: what students keep")
    if chosen.markdown:
        print(markdown(rows))
    else:
        measure.show(rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
