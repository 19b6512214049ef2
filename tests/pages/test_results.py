"""The Results page: every score with its cost, filters in the address, files, and no figure where none was measured."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from trainer.zoo import entries

PAGE = "from workbench.pages import results; results.render()"


def opened(**address: str | list[str]) -> AppTest:
    page = AppTest.from_string(PAGE, default_timeout=30)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def words_on(page: AppTest) -> str:
    return "\n".join(str(element.value) for kind in ("header", "caption", "text") for element in page.get(kind))


def test_the_starters_are_there_at_once_and_what_was_not_measured_is_empty(home):
    page = opened(dataset="bc5cdr")
    table = page.dataframe[0].value.set_index("Id")
    assert list(table.index) == ["minilm-bc5cdr", "minilm-bc5cdr-l3", "minilm-bc5cdr-long"]
    small = table.loc["minilm-bc5cdr-l3"]
    assert small["Score"] == pytest.approx(0.8233, abs=1e-4) and small["95 % interval"] == "0.816 to 0.831"
    assert small["Retention"] == pytest.approx(99.80, abs=0.01) and small["Parameters"] == pytest.approx(
        8.129, abs=0.001
    )
    assert small["Disk"] == pytest.approx(16.26, abs=0.01)
    assert table[["p50", "p95", "Memory", "Published", "Baseline"]].isna().all(axis=None)
    assert table["Measured on"].isna().all()


def test_published_figures_have_a_column_of_their_own(home):
    table = opened(dataset="ncbi-disease").dataframe[0].value
    ours, theirs = table[table["Kind"] != "Published"], table[table["Kind"] == "Published"]
    assert set(ours["Id"]) == {"minilm-ncbi", "minilm-ncbi-l3"} and ours["Published"].isna().all()
    assert theirs["Score"].isna().all() and {0.8793, 0.8867} <= set(theirs["Published"].round(4))
    assert "word pieces" in " ".join(theirs["Measure"])


def test_filters_and_the_selected_row_are_in_the_address(home):
    page = opened(dataset="BC5CDR", kind=["starter"], cost="disk_bytes", row=["minilm-bc5cdr-l3"])
    assert (
        page.selectbox(key="results.dataset").value == "bc5cdr"
        and page.selectbox(key="results.cost").value == "disk_bytes"
    )
    assert [link.label for link in page.get("page_link")] == ["minilm-bc5cdr-l3 in the zoo"]
    page.selectbox(key="results.dataset").set_value("All data sets").run()
    assert page.query_params["dataset"] == "All data sets" and page.query_params["kind"] == "starter"
    starters = [entry for entry in entries().values() if entry.role == "starter"]
    assert len(page.dataframe[0].value) == len(starters) and "Choose one data set" in words_on(page)


def test_the_chart_names_both_axes_with_their_units_and_greys_what_is_dominated(home):
    chart = json.loads(opened(dataset="bc5cdr", cost="params").get("plotly_chart")[0].proto.spec)
    assert chart["layout"]["xaxis"]["title"]["text"] == "Parameters (millions)"
    assert chart["layout"]["yaxis"]["title"]["text"] == "F1, word level (test)"
    names = {trace["name"]: trace["text"] for trace in chart["data"]}
    assert names["Pareto front"] == ["minilm-bc5cdr-l3", "minilm-bc5cdr"] and names["dominated"] == [
        "minilm-bc5cdr-long"
    ]


def test_a_cost_that_nobody_measured_is_said_and_not_drawn(home):
    page = opened(dataset="bc5cdr", cost="latency_ms_p50")
    assert not page.get("plotly_chart") and "not measured for any" in words_on(page)
