"""Figures: what is drawn, where, and from which numbers."""

from trainer.objective import Term, uniform
from workbench import cockpit, diagram


def layer_map(student: int, teacher: int, *terms: Term, copied=()):
    figure = diagram.layer_map_figure(
        student, teacher, terms=terms, names=cockpit.NAMES, copied=copied, outputs=cockpit.OUTPUTS
    )
    lines = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data if trace.mode == "lines"}
    return figure, lines


def test_the_layer_map_joins_what_is_compared_and_what_is_copied():
    pairs = uniform(3, 6)
    term = Term(name="attention_kl", weight=1, pairs=pairs)
    figure, lines = layer_map(3, 6, term, copied=((0, 0), (1, 2), (2, 4), (3, 6)))
    assert lines["copied at the start"][3:5] == [(0.0, 2), (1.0, 2.0)]  # layer 1 of 3 stands at a third of the depth
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
    first, second = (lines[cockpit.NAMES[name]] for name in kinds)
    assert 0 < abs(first[0][1] - second[0][1]) < 0.5


def test_terms_of_outputs_join_the_outputs_and_gold_labels_nothing():
    _, lines = layer_map(2, 4, Term(name="soft_targets", weight=1), Term(name="task", weight=1))
    assert lines == {"Soft targets": [(0.0, 5), (1.0, 5), (None, None)]}


def test_every_term_has_a_name_and_a_sentence():
    names = set(Term.model_fields["name"].annotation.__args__)
    assert set(cockpit.NAMES) == set(cockpit.MEANINGS) == names
