"""Running out of memory: how to recognise it, and what to change in the spec. No torch."""

from trainer.errors import StillroomError
from trainer.spec import JobSpec, Schedule

# In the RuntimeErrors of torch on a CPU (its allocator, C++, oneDNN); on a GPU there is a type, OutOfMemoryError.
SIGNS = (
    *("out of memory", "not enough memory", "can't allocate memory", "bad_alloc"),
    *("could not create a memory", "could not create a primitive"),  # all that oneDNN says
)


class OutOfMemory(StillroomError):
    """The run needed more memory than there is; the next step proposes a schedule that needs about half."""

    @classmethod
    def of(cls, spec: JobSpec, device: str) -> "OutOfMemory":
        """The error for a run of this spec on this device."""
        less = half(spec.schedule)
        fields = ", ".join(f"{name}: {value}" for name, value in less.items())
        step = f"Submit it again with less in a batch, for example schedule: {{{fields}}}."
        if less.get("max_tokens", spec.schedule.max_tokens) < spec.schedule.max_tokens:
            effect = _effect_on_longer_texts(spec)
            step = f"{step[:-1]}: a batch holds a single long row, so it takes a shorter window. {effect}"
        return cls(f"The run needed more memory than {device} has.", next_step=step)


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there was not enough memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # Python's, and torch's on a GPU
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def half(schedule: Schedule) -> dict[str, int]:
    """Changed fields of a schedule that needs about half the memory, as the spec accepts them.

    Fewer rows per batch while there are several; then a shorter window.
    """
    if schedule.batch_size and schedule.batch_size > 1:
        return {"batch_size": schedule.batch_size // 2}
    if schedule.batch_size:
        return {"max_tokens": max(8, schedule.max_tokens // 2)}
    assert schedule.batch_tokens is not None  # a schedule has batch_size or batch_tokens
    tokens = max(16, schedule.batch_tokens // 2)
    return {"batch_tokens": tokens, "max_tokens": min(schedule.max_tokens, tokens)}


def _effect_on_longer_texts(spec: JobSpec) -> str:
    """What happens to texts that are longer than the shorter window."""
    if "truncate" in f"{getattr(spec.task, 'rows', '')} {getattr(spec.task, 'reading', '')}":
        return "What is longer is cut off there."
    return "What is longer is read in several windows."
