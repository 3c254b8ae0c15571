"""The verdict: what decides it, and that doubt never passes for convergence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_mdn.posterior.verdict import Row, RunStatistics, verdict

ROW = Row(
    label="expected_total",
    kind="function",
    decides=True,
    mean=100.0,
    sd=1.0,
    mcse=0.03,
    rhat=1.002,
    ess_bulk=900.0,
    ess_tail=800.0,
)
WEIGHT = replace(ROW, label="kernel_weights[0, centre]", kind="parameter")
RUN = RunStatistics(
    num_chains=4,
    num_draws=1000,
    num_divergences=0,
    ebfmi=(0.9, 1.0, 1.1, 0.8),
    saturation=0.0,
    acceptance=0.85,
    mean_steps=15.0,
    log_posterior=(-100.0, -101.0, -99.5, -100.2),
    num_gradients=60000,
    wall_time_s=10.0,
)


def test_a_good_run_is_trusted_with_its_numbers() -> None:
    judged = verdict((WEIGHT, ROW), RUN)
    assert judged.ok and judged.grade == "trust" and judged.advice == ()
    for number in ("1.002", "800", "4 chains", "1000 draws"):
        assert number in judged.sentence


@pytest.mark.parametrize(
    ("row", "grade", "says"),
    [
        ({"rhat": 1.0101}, "use with care", "R-hat 1.010"),
        ({"ess_bulk": 399.0}, "use with care", "ESS 399"),
        ({"ess_tail": 399.0}, "use with care", "ESS 399"),
        ({"rhat": 1.06}, "do not use", "R-hat 1.060"),
        ({"ess_bulk": 99.0}, "do not use", "ESS 99"),
        ({"rhat": np.nan}, "do not use", "not converged"),
        ({"ess_tail": np.nan}, "do not use", "not converged"),
        ({"rhat": np.inf}, "do not use", "not converged"),
        ({"moved": False}, "do not use", "never moved"),
    ],
)
def test_one_bad_function_decides(row: dict, grade: str, says: str) -> None:
    judged = verdict((WEIGHT, ROW, replace(ROW, label="worst", **row)), RUN)
    assert judged.grade == grade
    assert says in judged.sentence
    assert judged.advice


@pytest.mark.parametrize(
    ("run", "grade", "says", "advice"),
    [
        ({"num_divergences": 2}, "use with care", "2 of 4000 draws diverged", "target_accept"),
        ({"num_divergences": 40}, "do not use", "40 of 4000", "target_accept"),
        ({"ebfmi": (1.0, 1.0, 0.25, 1.0)}, "use with care", "E-BFMI is 0.25", "warm up longer"),
        ({"ebfmi": (1.0, 1.0, 0.05, 1.0)}, "do not use", "E-BFMI is 0.05", "warm up longer"),
        ({"ebfmi": (1.0, np.nan, 1.0, 1.0)}, "do not use", "energy", "energies"),
        ({"saturation": 0.3}, "use with care", "30 %", "max_tree_depth"),
        ({"num_chains": 1}, "do not use", "one chain", "at least 2 chains"),
        ({"num_draws": 20}, "do not use", "too few", "few hundred"),
    ],
)
def test_the_run_as_a_whole_decides_too(run: dict, grade: str, says: str, advice: str) -> None:
    judged = verdict((WEIGHT, ROW), replace(RUN, **run))
    assert judged.grade == grade
    assert says in judged.sentence
    assert any(advice in line for line in judged.advice), judged.advice


@pytest.mark.parametrize(
    ("run", "grade"),
    [
        ({"num_chains": 2}, "trust"),
        ({"num_draws": 50}, "trust"),
        ({"num_draws": 49}, "do not use"),
        ({"saturation": 0.05}, "trust"),
        ({"saturation": 0.0501}, "use with care"),
        ({"num_divergences": 4}, "use with care"),  # of 4000
        ({"num_divergences": 5}, "do not use"),
        ({"ebfmi": (0.3001,) * 4}, "trust"),
        ({"ebfmi": (0.3,) * 4}, "use with care"),
        ({"ebfmi": (0.1501,) * 4}, "use with care"),
        ({"ebfmi": (0.15,) * 4}, "do not use"),
    ],
)
def test_numbers_of_a_run_on_both_sides_of_a_threshold(run: dict, grade: str) -> None:
    judged = verdict((WEIGHT, ROW), replace(RUN, **run))
    assert judged.grade == grade and bool(judged.advice) == (grade != "trust")


@pytest.mark.parametrize(
    ("row", "grade"),
    [
        ({"rhat": 1.01}, "trust"),
        ({"ess_bulk": 400.0}, "trust"),
        ({"ess_tail": 400.0}, "trust"),
        ({"rhat": 1.05}, "use with care"),
        ({"ess_bulk": 100.0}, "use with care"),
        ({"ess_tail": 100.0}, "use with care"),
    ],
)
def test_functions_on_a_threshold_pass(row: dict, grade: str) -> None:
    assert verdict((WEIGHT, replace(ROW, **row)), RUN).grade == grade


def test_the_evidence_never_rounds_in_favour() -> None:
    """The worst of all functions, not of any one: R-hat is rounded up, effective draws down."""
    others = (replace(ROW, rhat=1.0021, ess_bulk=500.9), replace(ROW, ess_tail=450.9))
    sentence = verdict((WEIGHT, ROW, *others), RUN).sentence
    assert "all 3 identified functions have R-hat <= 1.003 and" in sentence
    assert "effective sample sizes >= 450," in sentence


def test_the_worst_function_is_named() -> None:
    """Largest R-hat first, then fewest draws; an unknown R-hat is the worst of all."""
    rows = [replace(ROW, label=f"f{i}", rhat=1.02, ess_bulk=ess) for i, ess in enumerate((90, 80))]
    assert "2 of 2" in (said := verdict(tuple(rows), RUN).sentence) and "worst f1:" in said
    rows.append(replace(ROW, label="f2", rhat=1.03))
    assert "worst f2:" in verdict(tuple(rows), RUN).sentence
    rows.append(replace(ROW, label="f3", rhat=np.nan))
    assert "worst f3:" in verdict(tuple(rows), RUN).sentence


def test_bad_weights_are_explained_when_the_functions_are_good() -> None:
    judged = verdict((replace(WEIGHT, rhat=2.3), WEIGHT, ROW), RUN)
    assert judged.ok
    (line,) = judged.advice
    assert "1 of 2 raw parameters" in line and "2.30" in line and "mirror" in line


def test_bad_weights_are_not_explained_away_when_the_functions_are_bad() -> None:
    judged = verdict((replace(WEIGHT, rhat=2.3), replace(ROW, rhat=1.5)), RUN)
    assert not judged.ok and not any("mirror" in line for line in judged.advice)


def test_functions_beyond_the_data_do_not_decide() -> None:
    assert verdict((WEIGHT, ROW, replace(ROW, rhat=3.0, decides=False)), RUN).ok


def test_without_functions_the_parameters_decide() -> None:
    assert verdict((WEIGHT,), RUN).ok
    judged = verdict((replace(WEIGHT, rhat=1.2),), RUN)
    assert judged.grade == "do not use" and "parameters" in judged.sentence


def test_nothing_to_judge_is_not_trusted() -> None:
    assert verdict((), RUN).grade == "do not use"
    assert replace(ROW, ess_bulk=np.nan).ess == 0.0 == replace(ROW, ess_tail=np.nan).ess


def test_one_chain_is_told_to_have_company_and_not_to_run_longer() -> None:
    judged = verdict((WEIGHT, replace(ROW, rhat=np.nan)), replace(RUN, num_chains=1))
    assert judged.grade == "do not use" and "have not converged" not in judged.sentence
    (line,) = judged.advice
    assert "at least 2 chains" in line


def test_chains_in_different_modes_are_told_from_short_runs() -> None:
    bad = (WEIGHT, replace(ROW, rhat=1.4, ess_bulk=9.0, ess_tail=9.0))
    apart = verdict(bad, replace(RUN, log_posterior=(-100.0, -101.0, -180.0, -99.0)))
    assert any("chain 2 is 81 below" in line for line in apart.advice)
    assert not any("different modes" in line for line in verdict(bad, RUN).advice)
    for gap, said in ((10.0, True), (9.9, False)):
        run = replace(RUN, log_posterior=(-100.0, -100.0 - gap, np.nan, -100.0))
        advice = verdict(bad, run).advice
        assert any(f"chain 1 is {gap:.0f} below" in line for line in advice) == said
    assert verdict((WEIGHT, ROW), replace(RUN, log_posterior=(0.0, 99.0))).advice == ()


def test_the_advised_number_of_draws_would_be_enough() -> None:
    judged = verdict((replace(ROW, ess_bulk=200.0, ess_tail=250.0),), RUN)
    assert "num_samples = 2400" in judged.advice[0]  # 1000 x 400/200 x 1.2
    judged = verdict((replace(ROW, ess_bulk=150.0, ess_tail=250.0),), replace(RUN, num_draws=510))
    assert "num_samples = 1700" in judged.advice[0]  # 1632, in full hundreds
    judged = verdict((replace(ROW, rhat=1.02),), RUN)
    assert "num_samples = 1200" in judged.advice[0]  # enough of them, and R-hat is not
    judged = verdict((replace(ROW, ess_bulk=10.0),), RUN)
    assert "num_samples = 48000" in judged.advice[0]
    judged = verdict((replace(ROW, ess_bulk=9.9),), RUN)
    assert "hardly any independent draws" in judged.advice[0]


def test_a_remark_does_not_change_the_grade() -> None:
    judged = verdict((WEIGHT, ROW), RUN, remark="Model check: bad.")
    assert judged.ok and judged.advice == ("Model check: bad.",)
    assert "not every prediction" in judged.sentence


numbers = st.floats(allow_nan=True, allow_infinity=True)
rows = st.builds(
    replace,
    st.just(ROW),
    kind=st.sampled_from(["function", "parameter"]),
    decides=st.booleans(),
    rhat=numbers | st.floats(1.0, 1.1),
    ess_bulk=numbers | st.floats(50.0, 1000.0),
    ess_tail=numbers | st.floats(50.0, 1000.0),
    moved=st.booleans(),
)
runs = st.builds(
    replace,
    st.just(RUN),
    num_chains=st.integers(1, 8),
    num_draws=st.integers(1, 5000),
    num_divergences=st.integers(0, 10),
    ebfmi=st.lists(numbers, max_size=4).map(tuple),
    saturation=numbers,
    log_posterior=st.lists(numbers, max_size=4).map(tuple),
    wall_time_s=numbers,
)


@given(st.lists(rows, max_size=5).map(tuple), runs)
def test_any_numbers_get_a_sentence_and_only_good_ones_are_trusted(
    given_rows: tuple[Row, ...], run: RunStatistics
) -> None:
    judged = verdict(given_rows, run)
    assert judged.sentence.endswith(".") and "\n" not in judged.sentence
    if judged.ok:
        functions = [row for row in given_rows if row.kind == "function" and row.decides]
        deciding = functions or [row for row in given_rows if row.kind == "parameter"]
        assert deciding and all(row.moved and row.rhat <= 1.01 for row in deciding)
        assert all(min(row.ess_bulk, row.ess_tail) >= 400 for row in deciding)
        assert run.num_chains >= 2 and run.num_divergences == 0
        assert run.ebfmi and min(run.ebfmi) > 0.3
    else:
        assert judged.advice
