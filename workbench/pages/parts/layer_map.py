"""The layer map as a figure: teacher on the left, student on the right, lines for copied and compared layers."""

from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from trainer.recipes.terms import Term
from workbench.widgets.charts import DASHES, colors

ROW_PX, MIN_PX, MAX_PX = 34, 260, 560
LEFT, RIGHT = 0.0, 1.0
LINE_GAP = 0.09  # in rows, between the lines of terms that compare the same levels

Point = tuple[float, float]


def layer_map_figure(
    student: int,
    teacher: int,
    *,
    terms: Sequence[Term],
    copied: Sequence[tuple[int, int]] = (),
    base: int | None = None,
    titles: tuple[str, str] = ("Teacher", "Student"),
) -> go.Figure:
    """Levels from the embeddings (0) over the layers to the outputs; the student is stretched to the teacher's height.

    student, teacher: numbers of layers. copied: (student level, teacher level). The browser puts in the colours of
    the theme.
    """
    top = teacher + 1
    figure = go.Figure()
    if copied:
        copies = [((LEFT, high), (RIGHT, _height(low, student, teacher))) for low, high in copied]
        _lines(figure, copies, "copied before training", line={"color": "rgba(128,128,128,.45)", "width": 9})
    drawn = [(term, _pairs(term, student, teacher)) for term in terms]
    drawn = [(term, pairs) for term, pairs in drawn if pairs]
    for place, (term, pairs) in enumerate(drawn):
        aside = LINE_GAP * (place - (len(drawn) - 1) / 2) * max(1, top / 8)
        ends = [((LEFT, high + aside), (RIGHT, _height(low, student, teacher) + aside)) for low, high in pairs]
        color = colors()[place % len(colors())]
        line = {"color": color, "width": 2.5, "dash": DASHES[place % len(DASHES)]}
        _lines(figure, ends, term.traits.title, line=line)
    for x, layers, of in ((LEFT, teacher, "teacher"), (RIGHT, student, "student")):
        _levels(figure, x, [_height(level, layers, teacher) for level in range(layers + 2)], layers, of)
    return _framed(figure, top=top, titles=titles)


def _pairs(term: Term, student: int, teacher: int) -> tuple[tuple[int, int], ...]:
    """The levels that a term compares; none for a term of gold labels."""
    return ((student + 1, teacher + 1),) if term.traits.compares == "logits" else term.pairs


def _height(level: int, layers: int, teacher: int) -> float:
    """The height of a level, in rows of the teacher; the embeddings and outputs of both models are level."""
    return teacher + 1 if level > layers else level * teacher / layers


def _lines(figure: go.Figure, ends: Iterable[tuple[Point, Point]], name: str, *, line: dict[str, Any]) -> None:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for (x0, y0), (x1, y1) in ends:
        xs += [x0, x1, None]
        ys += [y0, y1, None]
    figure.add_scatter(x=xs, y=ys, name=name, mode="lines", line=line, hoverinfo="name")


def _levels(figure: go.Figure, x: float, heights: Sequence[float], layers: int, of: str) -> None:
    texts = [_word(level, layers) for level in range(layers + 2)]
    figure.add_scatter(
        x=[x] * len(heights),
        y=heights,
        mode="markers+text",
        marker={"size": 13, "symbol": "square", "color": "rgb(128,128,128)"},
        text=texts,
        textposition="middle left" if x == LEFT else "middle right",
        hovertext=[f"{of}: {word}" if not word.isdigit() else f"{of}: layer {word}" for word in texts],
        hoverinfo="text",
        showlegend=False,
        cliponaxis=False,
    )


def _word(level: int, layers: int) -> str:
    return "embeddings" if level == 0 else "outputs" if level > layers else str(level)


def _framed(figure: go.Figure, *, top: int, titles: tuple[str, str]) -> go.Figure:
    figure.update_xaxes(
        range=[-0.55, 1.55], tickvals=[LEFT, RIGHT], ticktext=list(titles), showgrid=False, zeroline=False, side="top"
    )
    figure.update_yaxes(title="Layer", range=[-0.6, top + 0.6], showticklabels=False, showgrid=False, zeroline=False)
    figure.update_layout(
        height=min(MAX_PX, max(MIN_PX, ROW_PX * (top + 1) + 130)),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "xanchor": "left"},
        hovermode="closest",
        dragmode=False,
    )
    return figure
