"""The loss terms that recipes combine, each defined once with its reduction and source.

Shapes: P positions (masked tokens, labelled words or whole documents), V classes, B rows, n tokens, h heads, H hidden
size. The caller sums over layers. Means are over one batch on one device (trap T24); the mean over nothing is 0, so a
batch without masked positions adds no masked-LM loss.
"""

import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    log_softmax,
    logsigmoid,
)

ROWS = 16  # rows of logits per group on a CPU: 2 MB for a vocabulary of 30,522
TINY = 1e-12  # added to probabilities before their logarithm, as in the code of the compact-biomedical papers


def hard_labels(logits: torch.Tensor, labels: torch.Tensor, *, ignored: int = -100) -> torch.Tensor:
    """Cross-entropy, mean over the labelled positions. logits: (P, V); labels: (P,), `ignored` where there is none."""
    total = cross_entropy(_precise(logits), labels, ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)


def soft_targets(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0, rows: int = ROWS
) -> torch.Tensor:
    """T^2 x KL(teacher || student) of distributions at temperature T: sum over classes, mean over positions.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network": T^2 keeps gradients of the same size at every T.
    student, teacher: logits, each (P, V); rows: positions per group on a CPU.
    """
    divergence, _ = _SoftLabels.apply(_precise(student), _precise(teacher), temperature, rows)
    return divergence * temperature**2 / max(1, len(student))


def label_sets(logits: torch.Tensor, labels: torch.Tensor, *, ignored: int = -100) -> torch.Tensor:
    """Binary cross-entropy per label, mean over all labelled elements.

    Equals torch's BCEWithLogitsLoss, which the papers' multi-label runs used (MIMIC-CXR).
    logits: (P, V); labels: (P, V) of 0 and 1, `ignored` where there is none.
    """
    counts = labels != ignored
    gold = torch.where(counts, labels, 0).to(torch.promote_types(logits.dtype, torch.float32))
    total = (binary_cross_entropy_with_logits(_precise(logits), gold, reduction="none") * counts).sum()
    return total / counts.sum().clamp(min=1)


def soft_label_sets(student: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """T^2 x KL(teacher || student) per label, each a Bernoulli distribution at temperature T: mean over all elements.

    The one-versus-all reduction of Yang et al. 2023, "Multi-Label Knowledge Distillation" (ICCV); T^2 as in
    soft_targets. They sum over the labels; the mean here keeps the term on the scale of label_sets.
    student, teacher: logits, each (P, V).
    """
    mine, theirs = _precise(student) / temperature, _precise(teacher) / temperature
    likely = theirs.sigmoid()
    divergence = likely * (logsigmoid(theirs) - logsigmoid(mine))
    divergence = divergence + (1 - likely) * (logsigmoid(-theirs) - logsigmoid(-mine))
    return divergence.sum() * temperature**2 / max(1, student.numel())


def values(outputs: torch.Tensor, labels: torch.Tensor, *, ignored: int = -100) -> torch.Tensor:
    """Mean squared error of values. outputs: (P, 1); labels: (P,), NaN where there is none (`ignored` is a value)."""
    counts = ~labels.isnan()
    gold = labels.nan_to_num().to(torch.promote_types(outputs.dtype, torch.float32))
    total = ((_precise(outputs)[:, 0] - gold).square() * counts).sum()
    return total / counts.sum().clamp(min=1)


def soft_values(student: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """Mean squared error of values against the teacher's, which no temperature softens. Each (P, 1)."""
    return (_precise(student) - _precise(teacher)).square().mean()


def soft_cross_entropy(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0, rows: int = ROWS
) -> torch.Tensor:
    """-sum p_teacher log p_student, mean over positions: soft_targets without T^2, plus the teacher's entropy.

    The output term of TinyBERT (Jiao et al. 2020). student, teacher: logits, each (P, V); rows: positions per group on
    a CPU.
    """
    divergence, entropy = _SoftLabels.apply(_precise(student), _precise(teacher), temperature, rows)
    return (divergence + entropy) / max(1, len(student))


def hidden_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine similarity of hidden states, mean over the tokens (DistilBERT, Sanh et al. 2019). Each (tokens, H)."""
    return (1 - cosine_similarity(_precise(student), _precise(teacher), dim=-1)).sum() / max(1, len(student))


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error of hidden states, mean over all elements, padding included (TinyBERT). Each (B, n, H)."""
    return (_precise(student) - _precise(teacher)).square().mean()


def attention_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error of two attention maps, mean over all elements, padding included. Each (B, h, n, n)."""
    return (_precise(student) - _precise(teacher)).square().mean()


def attention_kl(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) of two attention maps: mean over all elements in the rows of queries that are not padding.

    This is the usual KL, a sum over keys, divided by n (MiniALBERT, Nouriborji et al. 2023). Keys are not masked.
    student, teacher: probabilities, each (B, h, n, n); mask: (B, n), 1 for real tokens.
    """
    rows = mask.bool()
    if not bool(rows.all()):
        student, teacher = (maps.transpose(1, 2)[rows] for maps in (student, teacher))  # (real tokens, h, n)
    student, teacher = _precise(student) + TINY, _precise(teacher) + TINY
    return (teacher * (teacher.log() - student.log())).mean()


def relations(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, *, heads: int) -> torch.Tensor:
    """KL(teacher || student) of self-attention relations: sum over keys, mean over relation heads and real queries.

    MiniLMv2 (Wang et al. 2021), equation 4: vectors of one kind (queries, keys or values) are split into `heads`
    relation heads, and a relation is the softmax of their scaled dot products; padding keys get no probability.
    student, teacher: (B, n, H), whose widths may differ but are divisible by `heads`; mask: (B, n), 1 for real tokens.
    """
    target, predicted = (_relation(_precise(vectors), mask, heads) for vectors in (teacher, student))
    divergence = (target.exp() * (target - predicted)).sum(-1)  # (B, heads, n)
    real = mask[:, None, :].to(divergence.dtype)
    return (divergence * real).sum() / (heads * real.sum()).clamp(min=1)


class _SoftLabels(torch.autograd.Function):
    """KL(teacher || student) at temperature T and the teacher's entropy, each summed over positions and classes.

    The gradient, (p_student - p_teacher) / T, is computed in the forward pass, a few rows at a time: these stay in the
    processor's cache, whereas the formula applied to all rows at once passes over memory a dozen times.
    """

    @staticmethod
    def forward(ctx, student, teacher, temperature, rows):  # each (P, V)
        gradient = torch.empty_like(student)
        divergence, entropy = student.new_zeros(()), student.new_zeros(())
        rows = rows if student.device.type == "cpu" else max(1, len(student))
        for mine, theirs, out in zip(student.split(rows), teacher.split(rows), gradient.split(rows), strict=True):
            predicted, target = log_softmax(mine / temperature, dim=-1), log_softmax(theirs / temperature, dim=-1)
            likely = target.exp()
            torch.sub(predicted.exp(), likely, out=out)
            entropy -= torch.dot(likely.flatten(), target.flatten())
            divergence += torch.dot(likely.flatten(), target.sub_(predicted).flatten())
        ctx.save_for_backward(gradient.div_(temperature))
        ctx.mark_non_differentiable(entropy)
        return divergence, entropy

    @staticmethod
    def backward(ctx, scale, _):
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None, None


def _relation(vectors: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    rows, tokens, width = vectors.shape
    cut = vectors.view(rows, tokens, heads, width // heads).transpose(1, 2)  # (B, heads, n, width of a head)
    scores = cut @ cut.transpose(-1, -2) / (width // heads) ** 0.5
    # A finite floor: with -inf, exp(-inf) * (-inf - -inf) would be NaN.
    return log_softmax(scores.masked_fill(~mask.bool()[:, None, None, :], -1e9), dim=-1)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in fp32 at least: sums over a vocabulary lose too much in the half precision of autocast."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
