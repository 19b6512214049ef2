"""Charts of a run: loss and dev scores over optimiser steps. Colours come from the app's theme, light or dark."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import streamlit  # noqa: F401 registers the template whose colours the browser replaces

from trainer.recipes.terms import TERMS

MAX_POINTS = 800  # a screen shows no more, and a live chart is sent again at every poll
FEW_STEPS = 50  # below this, raw values are drawn
RELATED_SCORES = {"f1": ("precision", "recall"), "macro_f1": ("micro_f1",)}  # drawn together with the main score
TERM = "loss."  # prefix of the terms' metrics

Series = tuple[list[int], list[float]]


def series(history: Sequence[Mapping[str, Any]], name: str) -> Series:
    """Steps and values of one metric, in the order of the steps; values that are not finite are left out."""
    rows = [(row["step"], row["value"]) for row in history if row["name"] == name]
    finite = sorted((step, value) for step, value in rows if value is not None and math.isfinite(value))
    return [step for step, _ in finite], [value for _, value in finite]


def smooth(values: Sequence[float], *, weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Adam's bias correction), so that it begins at values[0]."""
    averages: list[float] = pd.Series(values, dtype=float).ewm(alpha=1 - weight).mean().tolist()
    return averages


def thin(points: Series, *, max_points: int = MAX_POINTS) -> Series:
    """At most `max_points` + 1 evenly spaced points, always with the last one."""
    steps, values = points
    stride = max(1, math.ceil(len(steps) / max_points))
    places = sorted({*range(0, len(steps), stride), len(steps) - 1} if steps else ())
    return [steps[i] for i in places], [values[i] for i in places]


def loss_figure(history: Sequence[Mapping[str, Any]], *, steps: int | None = None) -> go.Figure | None:
    """Training loss at each step and smoothed; None before the first step. For several terms see terms_figure."""
    points = series(history, "loss")
    if not points[0]:
        return None
    figure, color = go.Figure(), colors()[0]
    if len(points[0]) < FEW_STEPS:  # an average of a few steps means little
        _curve(figure, thin(points), "each step", mode="lines+markers", line={"color": color})
    else:
        _curve(figure, thin(points), "each step", opacity=0.35, line={"color": color})
        _curve(figure, smoothed(points), "smoothed", line={"color": color, "width": 2.5})
    figure.update_yaxes(title="Training loss (nats)", rangemode="tozero")
    return _framed(figure, steps=steps)


def terms(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the loss terms that a run reports, largest initial value first."""
    names = sorted({row["name"] for row in history if row["name"].startswith(TERM)})
    first = {name: (series(history, name)[1] or [0.0])[0] for name in names}
    return sorted((name.removeprefix(TERM) for name in names), key=lambda name: -first[TERM + name])


def terms_figure(history: Sequence[Mapping[str, Any]], *, steps: int | None = None) -> go.Figure:
    """Each weighted term of the loss, and their sum in bold; smoothed unless there are only a few steps."""
    figure = go.Figure()
    total = series(history, "loss")
    few = len(total[0]) < FEW_STEPS
    drawn = [("sum", total), *((_title(name), series(history, TERM + name)) for name in terms(history))]
    for (name, points), color, dash in zip(drawn, cycle(colors()), cycle(DASHES)):
        line = {"color": color, "dash": dash, "width": 2.5 if name == "sum" else 1.8}
        _curve(figure, thin(points) if few else smoothed(points), name, line=line)
    figure.update_yaxes(title="Weighted loss" + ("" if few else ", smoothed"), rangemode="tozero")
    return _framed(figure, steps=steps)


def _title(term: str) -> str:
    return TERMS[term].title if term in TERMS else term  # a run of another version may have other terms


def score_figure(
    history: Sequence[Mapping[str, Any]], *, score: str = "f1", steps: int | None = None
) -> go.Figure | None:
    """Scores on the dev split at each evaluation; None before the first one.

    With a teacher, its score is a horizontal line; without one, RELATED_SCORES are drawn too.
    """
    teacher = series(history, f"teacher_dev_{score}")[1]
    others = () if teacher else RELATED_SCORES.get(score, ())
    curves = [(name, *series(history, f"dev_{name}")) for name in (score, *others)]
    if not any(at for _, at, _ in curves):
        return None
    figure = go.Figure()
    for (name, at, values), color, dash, symbol in zip(curves, colors(), DASHES, _SYMBOLS, strict=False):
        line = {"color": color, "dash": dash, "width": 2.5 if name == score else 1.5}
        label = "student" if teacher else score_title(name)
        _curve(figure, (at, values), label, mode="lines+markers", line=line, marker={"symbol": symbol})
    if teacher:
        end = max(steps or 0, *curves[0][1])
        line = {"color": colors()[1], "dash": "dash", "width": 2}
        _curve(figure, ([0, end], [teacher[-1]] * 2), f"teacher {teacher[-1]:.3f}", line=line)
    figure.update_yaxes(title=f"Dev {score_title(score) if teacher or not others else 'score'} (0 to 1)")
    low, high = bounds([value for trace in figure.data for value in trace.y]) if teacher else (0, 1.02)
    figure.update_yaxes(range=[low, high], tickformat=".2f" if teacher else ".1f")
    return _framed(figure, steps=steps)


def overlay_figure(runs: Mapping[str, Series], *, title: str, marks: bool, unit: bool = False) -> go.Figure | None:
    """One metric of several runs, one line per run; None if no run has it.

    marks: whether to mark each value, as for evaluations. unit: whether values are from 0 to 1.
    """
    reported = {name: points for name, points in runs.items() if points[0]}
    if not reported:
        return None
    figure = go.Figure()
    for place, (name, points) in enumerate(reported.items()):
        line = {"color": colors()[place % len(colors())], "dash": DASHES[place % len(DASHES)], "width": 2}
        shown = points if marks else thin(points) if len(points[0]) < FEW_STEPS else smoothed(points)
        marker = {"symbol": _SYMBOLS[place % len(_SYMBOLS)]}
        _curve(figure, shown, name, mode="lines+markers" if marks else "lines", line=line, marker=marker)
    figure.update_yaxes(title=f"{title} (0 to 1)" if unit else title, rangemode="normal" if unit else "tozero")
    if unit:
        figure.update_yaxes(range=bounds([value for trace in figure.data for value in trace.y]), tickformat=".2f")
    return _framed(figure)


def labels_figure(rows: Sequence[tuple[str, float, float]]) -> go.Figure:
    """F1 by label of teacher and student as pairs of bars. rows: (label, teacher, student), top to bottom."""
    figure = go.Figure()
    order = [label for label, *_ in rows]
    for name, place in (("teacher", 1), ("student", 2)):
        values = [row[place] for row in rows]
        bar = {"color": colors()[1 if name == "teacher" else 0]}
        text = [f"{value:.3f}" for value in values]
        figure.add_bar(y=order, x=values, name=name, orientation="h", marker=bar, text=text, textposition="auto")
    figure.update_xaxes(title="Test F1 (0 to 1)", range=[0, 1.02], tickformat=".1f")
    figure.update_yaxes(title="Label", autorange="reversed")
    figure.update_layout(barmode="group", bargap=0.3)
    return _laid_out(figure, height=110 + 58 * len(rows))


def trade_off_figure(
    points: Sequence[tuple[str, float, float]],
    best: Sequence[bool],
    *,
    limits: Sequence[tuple[float | None, float | None]],
    x_title: str,
    y_title: str,
) -> go.Figure:
    """A score against a cost, with its interval. points: (name, cost, score); best: those on the Pareto front.

    limits: (low, high) of each score, None where not known. The others are grey, and small, so that colour is not all
    that tells them apart.
    """
    figure, middle = go.Figure(), max(cost for _, cost, _ in points) / 2
    for name, chosen, color, look in (
        ("dominated", False, "#8a8f98", {"symbol": "circle-open", "size": 9}),
        ("Pareto front", True, colors()[0], {"symbol": "circle", "size": 11}),
    ):
        places = sorted((n for n, each in enumerate(best) if each == chosen), key=lambda n: points[n][1])
        if not places:
            continue
        ends = [(points[n][2], *limits[n]) for n in places]
        errors = [(0.0 if b is None else b - a, 0.0 if c is None else a - c) for a, c, b in ends]
        figure.add_scatter(
            x=[points[n][1] for n in places],
            y=[points[n][2] for n in places],
            text=[points[n][0] for n in places],
            name=name,
            mode="lines+markers+text" if chosen else "markers+text",
            textposition=[f"top {'left' if points[n][1] > middle else 'right'}" for n in places],
            cliponaxis=False,
            marker={"color": color, **look},
            line={"color": color, "dash": "dot", "width": 1.5},
            error_y={"array": [up for up, _ in errors], "arrayminus": [down for _, down in errors], "thickness": 1},
            hovertemplate="%{text}<br>%{x:.3~g}, %{y:.3f}<extra></extra>",
        )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(title=y_title, tickformat=".3f")
    return _laid_out(figure, height=380)


def confusion_figure(counts: Mapping[tuple[str, str], int], labels: Sequence[str]) -> go.Figure:
    """How often each gold label was answered by each label; the last row and column stand for nothing ("")."""
    names, keys = [*labels, "nothing"], [*labels, ""]
    table = [[counts.get((gold, answer), 0) for answer in keys] for gold in keys]
    text = [[f"{count:,}" if count else "" for count in row] for row in table]
    shades = [[math.log1p(count) for count in row] for row in table]  # else the right ones leave the others blank
    figure = go.Figure(
        go.Heatmap(
            z=shades,
            x=names,
            y=names,
            text=text,
            texttemplate="%{text}",
            colorscale=[[0, "rgba(0,0,0,0)"], [1, colors()[0]]],
            showscale=False,
            hovertemplate="%{y} read as %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title="Answer of the model", type="category")
    figure.update_yaxes(title="In the data", type="category", autorange="reversed")
    return _laid_out(figure, height=140 + 36 * len(names))


def reliability_figure(curve: Sequence[Mapping[str, float]], scaled: Sequence[Mapping[str, float]]) -> go.Figure:
    """The share that is true against the stated probability, as it is and with the temperature."""
    figure = go.Figure()
    _curve(figure, ([0, 1], [0.0, 1.0]), "perfect", line={"color": "#8a8f98", "dash": "dot", "width": 1.5})
    drawn = (("as it is", curve, 0, "circle", "solid"), ("with temperature", scaled, 1, "square", "dash"))
    for name, points, color, symbol, dash in drawn:
        look = {"line": {"color": colors()[color], "dash": dash, "width": 2}, "marker": {"symbol": symbol}}
        xs, ys = ([point[key] for point in points] for key in ("probability", "true"))
        figure.add_scatter(x=xs, y=ys, name=name, mode="lines+markers", **look)
    figure.update_xaxes(title="Stated probability", range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title="Share that is true", range=[0, 1.02], tickformat=".0%")
    return _laid_out(figure, height=340)


def capitalised(text: str) -> str:
    """The text with a capital first letter, and the others as they are."""
    return text[:1].upper() + text[1:]


def score_title(score: str) -> str:
    """The display name of a score: "F1", "macro F1", "accuracy"."""
    return score.replace("f1", "F1").replace("_", " ")


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """A range of the y axis for scores, rounded to tenths with a small margin."""
    low, high = math.floor(min(values) * 10 - 0.2) / 10, math.ceil(max(values) * 10 + 0.2) / 10
    return max(0.0, low), min(1.02, high)


def smoothed(points: Series) -> Series:
    """The series smoothed and thinned."""
    return thin((points[0], smooth(points[1])))


DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond")


def colors() -> Sequence[str]:
    """Placeholders that the browser replaces with the colours of the theme."""
    palette: Sequence[str] = pio.templates["streamlit"].layout.colorway
    return palette


def _curve(figure: go.Figure, points: Series, name: str, *, mode: str = "lines", **look: Any) -> None:
    figure.add_scatter(x=points[0], y=points[1], name=name, mode=mode, **look)


def _framed(figure: go.Figure, *, steps: int | None = None) -> go.Figure:
    last = max(max(trace.x) for trace in figure.data if len(trace.x))
    end = max(last, steps or 0)
    figure.update_xaxes(title="Optimiser step", range=[0, end * 1.02 + 0.5], tickformat=",d")
    if end <= 10:
        figure.update_xaxes(dtick=1)  # no ticks at half a step
    return _laid_out(figure, height=300, hovermode="x unified")


def _laid_out(figure: go.Figure, *, height: int, **more: Any) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 32, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
        uirevision="kept",  # keeps zoom and hidden lines in a live update
        **more,
    )
    return figure
