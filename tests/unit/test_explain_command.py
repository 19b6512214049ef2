"""`stillroom explain`: its document, its list of targets, its errors, and what it shows a person."""

import json
from typing import get_args

import pytest

from workbench import cli
from workbench.explain.grains import GRAINS

TEXT = "PLAN:\r\nPt \U0001f600 with ataxia-telangiectasia, cafe\u0301 au lait spots.\r\nNo nausea; stop aspirin."
TARGET = f"{TEXT.index('ataxia')}:{TEXT.index(', cafe')}:Disease"

LATE = f"{TEXT.index('aspirin')}:{TEXT.index('aspirin') + 7}:Disease"


@pytest.fixture
def note(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture
def explain(capfd, home, tiny_model, note):
    """Run the command in this process: explain(*words) -> (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["explain", "--model", str(tiny_model), "--text-file", str(note), *map(str, words)])
        return ended.value.code, *capfd.readouterr()

    return run


def test_the_document_is_the_public_shape_and_nothing_else(explain):
    code, out, err = explain("--target", TARGET, "--method", "saliency", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert set(document) == {"target", "method", "attributions", "convergence_delta", "faithfulness", "trusted"}
    assert (document["target"], document["method"], document["convergence_delta"]) == (TARGET, "saliency", None)
    assert set(document["faithfulness"]) == {
        "comprehensiveness",
        "sufficiency",
        "random_comprehensiveness",
        "random_sufficiency",
    }
    assert isinstance(document["trusted"], bool)
    covered = [TEXT[part["start"] : part["end"]] for part in document["attributions"]]
    assert {"ataxia", "telangiectasia", "\U0001f600", "aspirin"} <= set(covered)
    assert all(set(part) == {"start", "end", "score"} for part in document["attributions"])


def test_without_a_target_it_lists_what_can_be_asked(explain):
    code, out, _ = explain("--json")
    targets = json.loads(out)["targets"]
    assert code == 0 and targets
    assert [each["score"] for each in targets] == sorted((each["score"] for each in targets), reverse=True)
    code, out, err = explain("--target", targets[0]["target"], "--method", "input_x_gradient", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["target"] == targets[0]["target"]
    code, out, _ = explain()
    assert code == 0
    assert targets[0]["target"] in out and "--target" in out


def test_a_person_sees_parts_trust_baseline_and_coverage(explain):
    code, out, _ = explain("--target", TARGET, "--grain", "phrase", "--context", "--checks")
    assert code == 0
    for words in (
        "No nausea;",
        "phrase, ",
        "random",
        "steps 50",
        "baseline mask",
        "left in place",
        "convergence delta",
    ):
        assert words in out, words
    for words in ("infidelity", "sensitivity", "randomised", "Read "):
        assert words in out, words


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("--target", "5:9:Disese"), "UnknownName", "Did you mean 'Disease'"),
        (("--target", "5:9999:Disease"), "BadSpec", f"the text has {len(TEXT)} characters"),
        (("--target", "Disease"), "BadSpec", "write START:END:LABEL"),
        (("--target", ""), "BadSpec", "found nothing"),
        (("--target", TARGET, "--method", "shap"), "UnknownName", "kernel_shap"),
        (("--target", TARGET, "--grain", "letter"), "UsageError", "letter"),
        (("--target", LATE, "--reading", "truncate", "--max-tokens", "8"), "BadSpec", "reads no word"),
    ],
)
def test_a_mistake_is_bad_input_and_says_what_is_allowed(explain, words, kind, message):
    code, out, err = explain(*words, "--json")
    error = json.loads(out)["error"]
    assert (code, error["type"]) == (2, kind)
    assert message in error["message"] and message in err.replace("\n", " ")
    assert error["next_step"]
    assert "telangiectasia" not in out + err


def test_the_grains_are_those_of_the_module():
    assert get_args(cli.Grain) == GRAINS
