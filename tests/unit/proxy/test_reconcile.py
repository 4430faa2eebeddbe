"""Our account beside the provider's: what differs is said, and nothing else."""

from decimal import Decimal

import pytest

from proxy.reconcile import Figures, compare, read_export, row_of

USAGE = """\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens
1,2,2026-03-04T00:00:00+00:00,x,,2,gpt-4o-2024-08-06,100,10
1,2,2026-03-04T23:59:00+00:00,x,,1,gpt-4o-2024-08-06,50,5
1,2,2026-03-05T00:00:00+00:00,x,,,,,
"""
COST = """\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item
1,2,2026-03-04T00:00:00+00:00,x,0.000375000000000000000000000001,usd,"gpt-4o, input"
1,2,2026-03-04T00:00:00+00:00,x,0.0001500004,usd,"gpt-4o, output"
"""
NO_TOLERANCE = Decimal(0)


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def test_openais_usage_is_summed_by_day_and_model() -> None:
    """Minutes and keys are put together; stretches without anything are passed over."""
    theirs = read_export(lines_of(USAGE), {})
    assert theirs == {("2026-03-04", "gpt-4o-2024-08-06"): Figures(3, 150, 15)}


def test_openais_costs_are_summed_before_they_are_rounded() -> None:
    assert read_export(lines_of(COST), {}) == {("2026-03-04", "gpt-4o"): Figures(cost=525_000)}


def test_a_dated_snapshot_is_the_model_we_know_it_by() -> None:
    ours = {("2026-03-04", "gpt-4o"): Figures(3, 150, 15, 525_000)}
    (line,) = compare(ours, read_export(lines_of(USAGE), {}))
    assert (line.model, line.differs(NO_TOLERANCE)) == ("gpt-4o", False)
    ours = {("2026-03-04", "gpt-4o-2024-08-06"): Figures(3, 150, 15, 525_000)}
    (line,) = compare(ours, read_export(lines_of(USAGE), {}))
    assert line.model == "gpt-4o-2024-08-06"


def test_a_difference_beyond_the_tolerance_is_one() -> None:
    """Also a day or a model that only one side has."""
    ours = {("2026-03-04", "gpt-4o"): Figures(3, 149, 15, 0), ("2026-03-04", "other"): Figures(1, 1, 1, 1)}
    first, second = compare(ours, read_export(lines_of(USAGE), {}))
    assert not first.differs(Decimal("0.01"))
    assert first.differs(Decimal("0.001"))
    assert second.differs(Decimal("0.5"))
    assert row_of(second, NO_TOLERANCE)["differs"] == "yes"
    assert row_of(first, NO_TOLERANCE)["their cost"] == "-", "what the export does not tell is not compared"


def test_an_export_without_models_is_compared_by_day() -> None:
    theirs = read_export(lines_of("date,usd\n2026-03-04,$0.5\n"), {"day": "date", "cost": "usd"})
    ours = {("2026-03-04", "a"): Figures(1, 1, 1, 200_000_000), ("2026-03-04", "b"): Figures(1, 1, 1, 300_000_000)}
    (line,) = compare(ours, theirs)
    assert not line.differs(NO_TOLERANCE)
    assert row_of(line, NO_TOLERANCE)["model"] == "(all)"


@pytest.mark.parametrize(
    ("moment", "day"),
    [("1772582399", "2026-03-03"), ("2026-03-04T00:30:00+02:00", "2026-03-03"), ("20260304", "2026-03-04")],
)
def test_days_are_utc(moment: str, day: str) -> None:
    assert list(read_export(lines_of(f"d,n\n{moment},1\n"), {"day": "d", "calls": "n"})) == [(day, "")]


@pytest.mark.parametrize(
    ("text", "columns", "why"),
    [
        ("a,b\n1,2\n", {}, "not an export that is known"),
        ("a,b\n1,2\n", {"day": "x", "cost": "b"}, "no column 'x'"),
        ("a,b\n2026-01-01,much\n", {"day": "a", "cost": "b"}, "line 2: 'much' is no number"),
        ("a,b\nsoon,1\n", {"day": "a", "cost": "b"}, "line 2: 'soon' is no day"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, columns: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_export(lines_of(text), columns)
