"""Agreement against published worked examples."""

import numpy as np
import pytest

from preferent.annotators.agreement import (
    agreement_report,
    ceiling,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    percent_agreement,
)
from preferent.annotators.agreement_pairs import cohen_kappa, pairwise_agreement
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies
from preferent.core.errors import ConfigError, DataError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def from_rows(*observers: str) -> VoteTable:
    """One text per observer, one word per unit; a dot is missing."""
    votes = [(u, o, value) for o, row in enumerate(observers) for u, value in enumerate(row.split()) if value != "."]
    return VoteTable.from_arrays(*(list(column) for column in zip(*votes, strict=True)))


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections A to D.
MEG_OWEN = from_rows("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
BEN_GERRY = from_rows("a a b b d c c c e d d a", "b a b b b c c c e d d d")
FOUR = from_rows("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")


@pytest.mark.parametrize(
    ("table", "level", "published"),
    [
        (MEG_OWEN, "nominal", 0.095),
        (BEN_GERRY, "nominal", 0.692),
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
    ],
)
def test_krippendorff_published(table, level, published):
    estimate = krippendorff_alpha(table, rng(), level=level)
    assert estimate.value == pytest.approx(published, abs=5e-4)
    assert estimate.low < estimate.value < estimate.high


def test_fleiss_published():
    # Fleiss (1971) as worked on many a page: ten subjects, fourteen raters, kappa .210.
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    votes = [(i, r, label) for i, row in enumerate(counts) for r, label in enumerate(np.repeat(range(5), row))]
    table = VoteTable.from_arrays(*(np.array(column) for column in zip(*votes, strict=True)))
    assert fleiss_kappa(table, rng()).value == pytest.approx(0.210, abs=5e-4)
    assert percent_agreement(table, rng()).value == pytest.approx(0.378, abs=5e-4)


def two_raters(yes_yes: int, yes_no: int, no_yes: int, no_no: int) -> VoteTable:
    first = ["y"] * (yes_yes + yes_no) + ["n"] * (no_yes + no_no)
    second = ["y"] * yes_yes + ["n"] * yes_no + ["y"] * no_yes + ["n"] * no_no
    n = len(first)
    return VoteTable.from_arrays([*range(n), *range(n)], ["p"] * n + ["q"] * n, first + second)


def test_cohen_published():
    # 20 yes-yes, 5, 10, 15 no-no: agree .7, by chance .5 * .6 + .5 * .4 = .5, so (.7 - .5) / (1 - .5) = .4.
    table = two_raters(20, 5, 10, 15)
    kappa = cohen_kappa(table, "p", "q")
    assert kappa.value == pytest.approx(0.4)
    # Fleiss, Cohen and Everitt's standard error here is .1271: .4 -+ 1.96 * .1271.
    assert (kappa.low, kappa.high) == pytest.approx((0.151, 0.649), abs=2e-3)
    (pair,) = pairwise_agreement(table)
    assert (pair.first, pair.second, pair.shared, pair.percent) == ("p", "q", 50, pytest.approx(0.7))
    assert pair.kappa == kappa


def test_gwet_is_not_fooled_by_prevalence():
    # 118 yes-yes, 5 yes-no, 2 no-yes: agree .944; yes is (123 + 120) / 250 = .972 of the votes, so chance is 2 * .972 * .028 = .054432.
    table = two_raters(118, 5, 2, 0)
    assert gwet_ac1(table, rng()).value == pytest.approx((0.944 - 0.054432) / (1 - 0.054432))
    assert fleiss_kappa(table, rng()).value < 0, "the paradox that AC1 avoids"


def test_unanimous_data_is_undefined_and_says_so():
    table = VoteTable.from_arrays([1, 1, 2, 2], ["p", "q", "p", "q"], ["a"] * 4, labels=("a", "b"))
    report = agreement_report(table, rng())
    for name in ("fleiss_kappa", "krippendorff_alpha"):
        assert np.isnan(report[name].value)
        assert "every vote says 'a'" in report[name].method
    assert report["percent"].value == 1.0
    kappa = cohen_kappa(table, "p", "q")
    assert np.isnan(kappa.value)
    assert "one label only" in kappa.method


def test_nobody_shares_an_item():
    table = VoteTable.from_arrays([1, 2], ["p", "q"], ["a", "b"])
    for estimate in agreement_report(table, rng()).values():
        assert np.isnan(estimate.value)
        assert "no item has two votes" in estimate.method
    assert "share no item" in cohen_kappa(table, "p", "q").method


def test_ceiling_by_hand():
    # a a b: an a-voter sees a and b tied (1/2), the b-voter sees a a (0): (1/2 + 1/2 + 0) / 3. a a: 1 each. Together 3 / 5.
    table = VoteTable.from_arrays([1, 1, 1, 2, 2], [1, 2, 3, 1, 2], ["a", "a", "b", "a", "a"])
    assert ceiling(table, rng()).value == pytest.approx(3 / 5)


def test_patterns_do_not_change_the_bootstrap():
    """The interval from patterns is that of drawing whole items."""
    generator = np.random.default_rng(3)
    votes = generator.random((400, 3)) < generator.beta(0.6, 0.6, 400)[:, None]
    table = VoteTable.from_arrays(np.repeat(np.arange(400), 3), np.tile(np.arange(3), 400), votes.ravel().astype(int))
    estimate = percent_agreement(table, rng(), n_resamples=4000)
    agree = np.where(votes.sum(1) % 3 == 0, 1.0, 1 / 3)
    half = 1.96 * agree.std() / 20
    assert (estimate.low, estimate.high) == pytest.approx((agree.mean() - half, agree.mean() + half), abs=0.004)


def test_intervals_cover_the_planted_alpha():
    """Two labels at even odds; two voters say the truth with chance c, else guess: alpha is c squared."""
    generator, inside, c = np.random.default_rng(5), 0, 0.7
    for _ in range(1500):
        truth = generator.integers(0, 2, 150)
        votes = np.where(generator.random((150, 2)) < c, truth[:, None], generator.integers(0, 2, (150, 2)))
        table = VoteTable.from_arrays(np.repeat(np.arange(150), 2), np.tile([0, 1], 150), votes.ravel())
        estimate = krippendorff_alpha(table, generator, n_resamples=400)
        inside += estimate.low <= c**2 <= estimate.high
    assert 0.93 <= inside / 1500 <= 0.97


def test_what_agreement_refuses():
    twice = VoteTable.from_arrays([1, 1], ["p", "p"], ["a", "b"], policies=Policies(repeats="keep"))
    for question in (lambda: percent_agreement(twice, rng()), lambda: pairwise_agreement(twice), lambda: cohen_kappa(twice, "p", "p")):
        with pytest.raises(DataError, match=r"one .*vote"):
            question()
    with pytest.raises(ConfigError, match="a number per label"):
        krippendorff_alpha(BEN_GERRY, rng(), level="interval")
    with pytest.raises(DataError, match="no annotator 'x'"):
        cohen_kappa(BEN_GERRY, "x", 0)
