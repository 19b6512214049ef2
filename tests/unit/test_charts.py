"""Figures: what is drawn, where, and from which numbers."""

from trainer.recipes.layer_maps import uniform
from trainer.recipes.terms import TERMS, Term
from workbench.launch import runs
from workbench.pages.parts import layer_map as diagram
from workbench.widgets import charts


def layer_map(student: int, teacher: int, *terms: Term, copied=()):
    figure = diagram.layer_map_figure(student, teacher, terms=terms, copied=copied)
    lines = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data if trace.mode == "lines"}
    return figure, lines


def test_the_layer_map_joins_what_is_compared_and_what_is_copied():
    pairs = uniform(3, 6)
    term = Term(name="attention_kl", weight=1, pairs=pairs)
    figure, lines = layer_map(3, 6, term, copied=((0, 0), (1, 2), (2, 4), (3, 6)))
    assert lines["copied before training"][3:5] == [(0.0, 2), (1.0, 2.0)]  # layer 1 of 3 stands at a third of the depth
    assert lines["Attention maps, KL"] == [
        point for _, high in pairs for point in ((0.0, high), (1.0, float(high)), (None, None))
    ]
    teacher, student = (trace for trace in figure.data if trace.mode == "markers+text")
    assert list(teacher.text) == ["embeddings", *"123456", "outputs"]
    assert list(student.text) == ["embeddings", *"123", "outputs"]
    assert list(student.y) == [0, 2, 4, 6, 7]


def test_terms_of_the_same_levels_do_not_hide_each_other():
    pairs = uniform(2, 4)
    kinds = ("attention_kl", "hidden_cosine")
    _, lines = layer_map(2, 4, *(Term(name=name, weight=1, pairs=pairs) for name in kinds))
    first, second = (lines[TERMS[name].title] for name in kinds)
    assert 0 < abs(first[0][1] - second[0][1]) < 0.5


def test_terms_of_outputs_join_the_outputs_and_gold_labels_nothing():
    _, lines = layer_map(2, 4, Term(name="soft_targets", weight=1), Term(name="task", weight=1))
    assert lines == {"Soft targets": [(0.0, 5), (1.0, 5), (None, None)]}


def history(**values: list[float]) -> list[dict]:
    rows = ((name, step, value) for name, column in values.items() for step, value in enumerate(column, 1))
    return [{"step": step, "name": name.replace("__", "."), "value": value} for name, step, value in rows]


def test_the_terms_are_drawn_as_they_enter_the_sum():
    figure = charts.terms_figure(
        history(loss=[3, 2], loss__mlm=[1, 1], loss__soft_targets=[2, 1], loss__of_old=[0.5, 0.2])
    )
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn == {"sum": [3, 2], "Soft targets": [2, 1], "Masked LM": [1, 1], "of_old": [0.5, 0.2]}
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text


def test_the_teacher_is_a_line_over_the_whole_run():
    rows = [*history(dev_accuracy=[0.2, 0.4]), {"step": 0, "name": "teacher_dev_accuracy", "value": 0.6}]
    student, teacher = charts.score_figure(rows, score="accuracy", steps=9).data
    assert list(student.y) == [0.2, 0.4]
    assert (list(teacher.x), list(teacher.y)) == ([0, 9], [0.6, 0.6])
    assert charts.score_figure(rows[2:], score="accuracy") is None


def test_scores_get_a_range_in_tenths_that_holds_them():
    assert charts.bounds([0.81, 0.79]) == (0.7, 0.9)
    assert charts.bounds([0.0, 1.0]) == (0.0, 1.02)


def test_only_fields_that_differ_are_listed():
    one = {"kind": "distill", "student": {"layers": 3, "layer_map": [1, 2, 3], "hidden": None}, "seed": 1}
    other = {"kind": "distill", "student": "minilm", "seed": 1}
    assert runs.differences({"a": one, "b": other}) == {
        "student.layers": {"a": "3", "b": "—"},
        "student.layer_map": {"a": "1, 2, 3", "b": "—"},
        "student": {"a": "—", "b": "minilm"},
    }
    assert runs.differences({"a": one, "b": dict(one)}) == {}
