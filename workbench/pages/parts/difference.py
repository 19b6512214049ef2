"""Two rows of the Results page, item by item."""

from collections.abc import Sequence

import streamlit as st

from trainer.errors import StillroomError
from workbench.results import Row, comparison, formats
from workbench.widgets.messages import plain, show_error


def draw(rows: Sequence[Row], first: Row, second: Row) -> None:
    """The difference of two scores with its interval, and McNemar's test; or why there is none."""
    st.header("Difference, item by item", anchor=False)
    try:
        found = comparison.compare_rows(list(rows), first.id, second.id)
    except StillroomError as error:
        show_error(error)
        return
    titles = [f"{row.model} ({row.id})" if row.model != row.id else row.id for row in (first, second)]
    with st.container(horizontal=True):
        for title, score in zip(titles, (found.first, found.second), strict=True):
            st.metric(title, f"{score:.3f}", width=240)
        st.metric("Difference", f"{found.difference:+.3f}", width=140)
        st.metric("p, paired bootstrap", _p(found.p), width=180)
        st.metric("p, McNemar", _p(found.mcnemar.p), width=140)
    clear = found.low > 0 or found.high < 0
    verdict = "They differ by more than chance explains" if clear else "Chance alone may explain the difference"
    st.markdown(f"**{verdict}**: 95 % interval {found.low:+.3f} to {found.high:+.3f}, over {found.n:,} items.")
    test = found.mcnemar
    st.caption(
        plain(
            f"{formats.measure_title(first)}. The bootstrap draws the same items for both, {found.samples:,} times. "
            f"McNemar's exact test looks at {test.units}: {test.only_first:,} that only the first has right, "
            f"{test.only_second:,} that only the second has; both have {test.both:,}, neither {test.neither:,}."
        )
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
