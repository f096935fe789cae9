from __future__ import annotations

from benchmarks.figures import FIGURES, as_markdown, as_text, medians, percentile, table, times_better

BY_NAME = {figure.name: figure for figure in FIGURES}


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 50) == 51.0
    assert percentile(values, 99) == 100.0
    assert percentile([7.0], 99) == 7.0


def test_the_median_is_over_the_runs_that_have_the_figure() -> None:
    runs = [{"a": 1.0, "rest": 9.0}, {"a": 30.0}, {"a": 2.0}]
    assert medians(runs) == {"a": 2.0, "rest": 9.0}


def test_better_is_less_time_and_more_events() -> None:
    assert times_better(BY_NAME["one_user_p50_ms"], ours=2.0, theirs=20.0) == 10.0
    assert times_better(BY_NAME["many_users_events_s"], ours=800.0, theirs=80.0) == 10.0
    assert times_better(BY_NAME["rest_cpu_percent"], ours=0.0, theirs=1.0) is None


def test_the_table_has_both_and_the_ratio() -> None:
    rows = table({"Annals": {"one_user_p50_ms": 2.5}, "Synapse": {"one_user_p50_ms": 25.0}})
    assert rows == [
        ["work", "unit", "Annals", "Synapse", "Annals is better by"],
        ["one user sends, p50", "ms", "2.5", "25.0", "10.0x"],
    ]


def test_alone_there_is_no_ratio() -> None:
    rows = table({"Synapse": {"one_user_p50_ms": 25.0}})
    assert rows == [["work", "unit", "Synapse"], ["one user sends, p50", "ms", "25.0"]]
    assert as_markdown(rows).splitlines()[1] == "| --- | ---: | ---: |"
    assert as_text(rows).splitlines()[1] == "one user sends, p50    ms     25.0"
