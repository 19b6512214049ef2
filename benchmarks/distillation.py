"""One distillation step: Stillroom's objective against the papers' way of computing the same objective, in one run.

    python -m benchmarks.distillation [--json] [--case distil-minilm ...] [--rounds N]

Peer: what the papers' scripts do. Both masked LMs compute everything (vocabulary logits at every position, all hidden
states and, for the layer objectives, attention maps from eager attention); then masked_select picks the masked rows,
and torch's AdamW takes a step with its defaults. Ours: the objective and the optimiser of training.loop. Both have the
same weights, batch, learning rate and threads. Losses are compared without dropout and steps are timed with it; `equal`
of a case in bf16 (`compute: {precision: bf16}`) is the difference that bf16 makes. Peak memory is that of two steps in
a new process for each side.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import psutil
import torch
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from benchmarks import measure
from trainer.architectures.dropout import quicken
from trainer.evaluation import cost
from trainer.recipes import RECIPES
from trainer.spec import Schedule
from trainer.training import loop
from trainer.training.objective import IGNORED, Objective

ROWS, TOKENS, SHARE, VOCABULARY, MASK_ID = 16, 128, 0.15, 30522, 103
SCHEDULE = Schedule(steps=1000, batch_size=ROWS, lr=1e-4)
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 312, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 1200}


Output = Any  # transformers' MaskedLMOutput, with every field filled
# (case, batch, dropout=) -> a function that takes a step and returns its loss, and the modules
Side = Callable[..., tuple[Callable[[], float], torch.nn.Module]]


class Case(NamedTuple):
    """A recipe and the shapes of teacher and student."""

    name: str
    recipe: str
    teacher: dict[str, int]
    student: dict[str, int]
    precision: str = "fp32"  # of ours; the papers' scripts use fp32


CASES = (
    Case("distil-minilm", "distil", MINILM, MINILM | {"num_hidden_layers": 3}),
    Case("distil-base", "distil", BASE, BASE | {"num_hidden_layers": 6}),
    Case("tiny-minilm", "tiny", MINILM, TINY),
    Case("compact-minilm", "compact", MINILM, MINILM | {"num_hidden_layers": 3}),
    Case("distil-minilm-bf16", "distil", MINILM, MINILM | {"num_hidden_layers": 3}, "bf16"),
)


def build(shape: dict[str, int], *, seed: int, attention: str) -> PreTrainedModel:
    """A masked LM of this shape with random weights."""
    torch.manual_seed(seed)
    return BertForMaskedLM(_config(shape, attn_implementation=attention))


def _config(shape: dict[str, int], **options: Any) -> BertConfig:
    """A configuration; from_dict, because the signature of the class does not have every option."""
    return BertConfig.from_dict({"vocab_size": VOCABULARY, **shape, **options})


def masked_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random pieces, 15 % of them masked, without padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, VOCABULARY, (ROWS, TOKENS), generator=generator)
    chosen = torch.rand((ROWS, TOKENS), generator=generator) < SHARE
    return {
        "input_ids": ids.masked_fill(chosen, MASK_ID),
        "attention_mask": torch.ones_like(ids),
        "labels": ids.masked_fill(~chosen, IGNORED),
    }


def ours(case: Case, batch: dict[str, torch.Tensor], *, dropout: bool) -> tuple[Callable[[], float], torch.nn.Module]:
    """A function that takes one step and returns its loss, and the objective."""
    teacher, student = (
        build(shape, seed=seed, attention="sdpa") for seed, shape in enumerate((case.teacher, case.student))
    )
    layers = (case.student["num_hidden_layers"], case.teacher["num_hidden_layers"])
    terms = RECIPES[case.recipe].model_validate({"name": case.recipe}).plan(*layers)
    objective = Objective(student, terms, head="mlm", teacher=teacher.eval(), seed=2)
    quicken(objective)
    optimizer = loop.optimizer_for(objective, SCHEDULE)
    objective.train(dropout)

    def step() -> float:
        with loop.arithmetic(torch.device("cpu"), case.precision):
            loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step, objective


def peer(case: Case, batch: dict[str, torch.Tensor], *, dropout: bool) -> tuple[Callable[[], float], torch.nn.Module]:
    """The same the papers' way."""
    teacher, student = (
        build(shape, seed=seed, attention="eager") for seed, shape in enumerate((case.teacher, case.student))
    )
    teacher.requires_grad_(False).eval()
    whole = torch.nn.ModuleDict({"student": student})
    if case.recipe == "tiny":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            whole["projection"] = torch.nn.Linear(case.student["hidden_size"], case.teacher["hidden_size"])
    optimizer = torch.optim.AdamW(whole.parameters(), lr=SCHEDULE.lr, weight_decay=SCHEDULE.weight_decay)
    whole.train(dropout)
    objective = {"distil": _distil, "tiny": _tiny, "compact": _compact}[case.recipe]

    def step() -> float:
        maps = case.recipe != "distil"
        wanted = {"output_hidden_states": True, "output_attentions": maps}
        with torch.no_grad():
            target = teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **wanted)
        output = student(**batch, **wanted)
        loss = objective(output, target, batch, whole)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step, whole


def _select(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    # As their code does, after DistilBERT's: with a mask of the size of the values, and then back to rows.
    wide = rows.unsqueeze(-1).expand_as(values)
    return torch.masked_select(values, wide).view(-1, values.shape[-1])


def _distil(output: Output, target: Output, batch: dict[str, torch.Tensor], _: torch.nn.ModuleDict) -> torch.Tensor:
    masked, real = batch["labels"] >= 0, batch["attention_mask"].bool()
    divergence = functional.kl_div(
        functional.log_softmax(_select(output.logits, masked) / 2.0, dim=-1),
        functional.softmax(_select(target.logits, masked) / 2.0, dim=-1),
        reduction="batchmean",
    )
    mine, theirs = (_select(each.hidden_states[-1], real) for each in (output, target))
    cosine = functional.cosine_embedding_loss(mine, theirs, torch.ones(len(mine)), reduction="mean")
    return 2 * output.loss + 5 * divergence * 4 + cosine


def _tiny(output: Output, target: Output, batch: dict[str, torch.Tensor], whole: torch.nn.ModuleDict) -> torch.Tensor:
    masked, loss = batch["labels"] >= 0, torch.zeros(())
    ratio = len(target.attentions) // len(output.attentions)
    for level, mine in enumerate(output.attentions, start=1):
        loss = loss + functional.mse_loss(mine, target.attentions[level * ratio - 1])
    for level, mine in enumerate(output.hidden_states):
        loss = loss + functional.mse_loss(whole["projection"](mine), target.hidden_states[level * ratio])
    probabilities = functional.softmax(_select(target.logits, masked), dim=-1)
    return loss - (probabilities * functional.log_softmax(_select(output.logits, masked), dim=-1)).sum(-1).mean()


def _compact(output: Output, target: Output, batch: dict[str, torch.Tensor], _: torch.nn.ModuleDict) -> torch.Tensor:
    masked, real = batch["labels"] >= 0, batch["attention_mask"].bool()
    ratio, layers = len(target.attentions) // len(output.attentions), torch.zeros(())
    for level, mine in enumerate(output.attentions, start=1):
        mine, theirs = (maps.transpose(1, 2)[real] + 1e-12 for maps in (mine, target.attentions[level * ratio - 1]))
        layers = layers + functional.kl_div(mine.log(), theirs, reduction="none").mean()
        mine, theirs = (
            _select(states, real) for states in (output.hidden_states[level], target.hidden_states[level * ratio])
        )
        layers = layers + functional.cosine_embedding_loss(mine, theirs, torch.ones(len(mine)), reduction="mean")
    divergence = functional.kl_div(
        functional.log_softmax(_select(output.logits, masked), dim=-1),
        functional.softmax(_select(target.logits, masked), dim=-1),
        reduction="batchmean",
    )
    return output.loss + 3 * layers + 5 * divergence


def measure_case(case: Case, *, rounds: int, threads: int) -> dict[str, Any]:
    """One case: seconds per step of each side, difference of the losses, peak memory, share of the peak rate."""
    batch = masked_batch()
    losses = [side(case, batch, dropout=False)[0]() for side in (ours, peer)]
    peaks = [_peak(side, case, threads=threads) for side in (ours, peer)]
    sides = {"ours": ours(case, batch, dropout=True)[0], "peer": peer(case, batch, dropout=True)[0]}
    seconds = measure.interleaved(sides, rounds=rounds)
    work = step_flops(case, masked=int((batch["labels"] >= 0).sum()))
    return {
        "name": f"distillation-{case.name}",
        "ours": seconds["ours"],
        "peer": seconds["peer"],
        "ratio": seconds["peer"] / seconds["ours"],
        "equal": abs(losses[0] - losses[1]),
        "limit_share": work / seconds["ours"] / measure.matrix_peak(threads=threads),
        "loss": losses[0],
        "peak_megabytes": peaks[0] / 1e6,
        "peer_peak_megabytes": peaks[1] / 1e6,
    }


def step_flops(case: Case, *, masked: int) -> float:
    """Operations of our step: the teacher forward, the student forward and backward, heads at masked positions."""
    lengths = [TOKENS] * ROWS
    work = 0.0
    for shape, passes in ((case.teacher, 1), (case.student, 3)):
        config = _config(shape, num_labels=1)
        hidden = shape["hidden_size"]
        encoder = measure.forward_flops(config, lengths) - 2 * ROWS * TOKENS * hidden  # its one-label head
        head = 2 * masked * hidden * (hidden + VOCABULARY)
        work += passes * (encoder + head)
    return work


def _peak(side: Side, case: Case, *, threads: int) -> int:
    """Peak bytes of two steps of a side beyond what was in use before, in a new process, as freed memory lingers."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_two_steps, side, case, threads).result()


def _two_steps(side: Side, case: Case, threads: int) -> int:
    torch.set_num_threads(threads)
    before, device = psutil.Process().memory_info().rss, torch.device("cpu")
    step, _ = side(case, masked_batch(), dropout=True)
    step()
    step()
    return cost.peak_bytes(device) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cases = [case for case in CASES if not chosen.case or case.name in chosen.case]
    results = [measure_case(case, rounds=chosen.rounds, threads=chosen.threads) for case in cases]
    measure.show(results, as_json=chosen.json)


if __name__ == "__main__":
    main()
