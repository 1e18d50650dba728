"""The report: hostile texts stay texts, nothing outside is loaded, figures are deterministic, files are written whole or not at all."""

import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from preferent.audits import plots
from preferent.audits.evaluate import evaluate
from preferent.audits.report import Section, cut, render_report, safe_svg, write_report
from preferent.audits.tables import Table, flat, parts_of, printed
from preferent.audits.verdict import verdict
from preferent.core.errors import DataError, ExistsError, MissingExtraError
from preferent.core.estimates import Estimate
from preferent.core.records import Preference, user
from preferent.core.scorer import FakeScorer

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</div></style><style>body{display:none}</style>",
    "$\\frac{1}{0}$ & <b>\u202e\x00\x1b[31m",
    "\ud800 lone surrogate",
)  # fmt: skip
ALLOWED_TAGS = set(
    """html head meta title style body main header h1 h2 h3 p section nav a div table thead tbody tr th td figure figcaption article b span
    details summary svg g defs path use text tspan rect clippath""".split()  # noqa: SIM905
)


class Page(HTMLParser):
    """What a browser would see: tags, attributes and texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, key, value or "") for key, value in attrs)

    def handle_data(self, data):
        self.texts.append(data)


def pairs(n=24, texts=HOSTILE):
    rng = np.random.default_rng(0)
    return [
        Preference(
            prompt=user(f"{texts[k % len(texts)]} {k % 12}"),
            response_a=f"{texts[(k + 1) % len(texts)]} {k}",
            response_b=f"{texts[(k + 2) % len(texts)]} {k} " + "longer " * int(rng.integers(0, 9)),
            p_a=float(rng.choice([0.0, 1.0, 0.3, 0.5])),
            source=texts[k % len(texts)],
            id=texts[k % len(texts)],
            votes=(1.0, 0.0, 1.0),
        )
        for k in range(n)
    ]


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(FakeScorer(lambda exchange: len(exchange.response) % 7 / 3, name=HOSTILE[0]), pairs(), n_resamples=100)


CURVES = [{"step": k, "loss": 1 / (1 + k), "learning_rate": 1e-4} for k in range(80)] + [{"step": 80, "held_out_nll": 0.4}]
POINTS = [
    SimpleNamespace(
        n=n,
        kl_bound=float(np.log(n) - (n - 1) / n),
        proxy=Estimate(n, n - 0.5, n + 0.5, 9, ""),
        gold=Estimate(-((n - 4) ** 2), -40, 1, 9, ""),
    )
    for n in (1, 2, 4, 8)
]


@pytest.fixture(scope="module")
def page(evaluation):
    return full_page(evaluation)


def full_page(evaluation):
    ledger = {
        "rows_read": 9,
        "refused": {HOSTILE[1]: 3},
        "refusals": [{"where": "f:1", "reason": t, "detail": t} for t in HOSTILE],
        "merged": [],
    }
    extra = [Section(HOSTILE[0], HOSTILE, plots.best_of_n_plot(POINTS), Table(HOSTILE, [HOSTILE, (1, 2.5, None)], note=HOSTILE[0]))]
    return render_report(
        title=HOSTILE[0], evaluation=evaluation, ledger=ledger, curves=CURVES, config={HOSTILE[0]: {"k": HOSTILE[1]}}, extra=extra
    )


def test_hostile_texts_make_no_tags_and_no_attributes(page):
    page = Page(page)
    assert set(page.tags) <= ALLOWED_TAGS
    assert page.tags.count("style") - 1 == page.tags.count("svg")  # the page's own, and one in each figure
    for tag, key, value in page.attributes:
        assert not key.startswith("on"), (tag, key, value)
        assert key != "src"
        if key.endswith("href"):
            assert value.startswith("#"), (tag, value)
    text = "".join(page.texts)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text


def test_the_policy_forbids_scripts_and_loads(page):
    attributes = Page(page).attributes
    policy = next(value for _, key, value in attributes if key == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy  # so that default-src 'none' holds for scripts
    assert "http" not in policy


def test_every_link_leads_somewhere_and_ids_are_unique(page):
    attributes = Page(page).attributes
    ids = [value for _, key, value in attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, key, value in attributes if key.endswith("href")} <= set(ids)


def test_the_sections_are_there(page, evaluation):
    text = " ".join(Page(page).texts)
    assert all(line in text for line in verdict(evaluation))
    for heading in (
        "Numbers",
        "Plots",
        "Slices",
        "Worst mistakes",
        "Data",
        "Configuration",
        "preferred by the labels",
        "one held-out annotator",
    ):
        assert heading in text, heading


def test_written_whole_and_never_over_another(tmp_path, evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # without figures it is quicker
    path = tmp_path / "deep" / "report.html"
    assert write_report(path, title="one", evaluation=evaluation) == path
    first = path.read_bytes()
    assert b"\\ud800 lone surrogate" in first
    with pytest.raises(ExistsError, match="exists"):
        write_report(path, title="two", evaluation=evaluation)
    assert path.read_bytes() == first
    write_report(path, title="two", evaluation=evaluation, force=True)
    assert b"<title>two</title>" in path.read_bytes()
    with pytest.raises(DataError):
        write_report(path, title="three", evaluation=evaluation, extra=[Section("x", svg="<p/>")], force=True)
    assert b"<title>two</title>" in path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_the_same_evaluation_gives_the_same_bytes(page, evaluation):
    assert full_page(evaluation) == page


@pytest.mark.parametrize(
    "svg",
    [
        "<svg><script>1</script></svg>",
        "<svg onload='1'/>",
        "<svg><foreignObject/></svg>",
        "<svg xmlns:xlink='http://www.w3.org/1999/xlink'><use xlink:href='http://x/y#z'/></svg>",
        "<svg><a href='javascript:1'/></svg>",
        "<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>&a;</svg>",
        "<svg><g></svg>",
        "<div/>",
    ],
)
def test_a_figure_that_could_act_is_refused(svg):
    with pytest.raises(DataError, match="the figure of section 'mine'"):
        safe_svg(svg, "mine")


def test_our_own_figures_pass_and_do_not_depend_on_anything_around(evaluation):
    before = "matplotlib.pyplot" in sys.modules
    painted = [
        plots.reliability_plot(evaluation.reliability),
        plots.slices_plot(evaluation.slices[-7:], HOSTILE[1]),
        plots.margins_plot(evaluation.margins),
        plots.curves_plot(CURVES),
        plots.best_of_n_plot(POINTS),
    ]
    for svg in painted:
        safe_svg(svg, "own")
        assert ElementTree.fromstring(svg).get("role") == "img"
        assert "currentColor" in svg
        assert "date" not in svg.lower()
    assert painted[2] == plots.margins_plot(evaluation.margins)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_curves_find_their_keys_and_leave_out_what_is_not_a_number():
    records = [{"loss": 0.5}, {"loss": float("nan")}, {"step": 7, "loss": 0.25, "eval_loss": 0.6}]
    assert plots.series(records, plots.LOSS_KEYS) == ([0.0, 7.0], [0.5, 0.25])
    assert plots.series(records, plots.HELD_OUT_KEYS) == ([7.0], [0.6])
    np.testing.assert_allclose(plots.smooth([1.0, 3.0, 5.0], 2), [1.0, 2.0, 4.0])
    with pytest.raises(DataError, match="keys are \\['x'\\]"):
        plots.curves_plot([{"x": 1}])


def test_without_matplotlib_the_report_says_so(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        plots.margins_plot(evaluation.margins)
    page = Page(render_report(title="t", evaluation=evaluation))
    assert "svg" not in page.tags
    assert "The plots are left out" in " ".join(page.texts)


def test_tables_of_anything():
    ledger = {"read": 3, "refused": {}, "reasons": {"empty": 2, "deep": {"er": 1}}, "rows": [{"a": 1}, {"b": None}], "notes": ["x", 2]}
    parts = {part.title: part.table for part in parts_of(ledger, "counts")}
    assert parts["counts"].rows == [["read", "3"], ["refused", "none"]]
    assert parts["reasons"].rows == [["empty", "2"], ["deep.er", "1"]]
    assert (parts["rows (2)"].headers, parts["rows (2)"].rows) == (["a", "b"], [["1", "-"], ["-", "-"]])
    assert parts["notes (2)"].rows == [["x"], ["2"]]
    share = {"share": Estimate(0.5, 0.25, 0.75, 9, "m").to_dict(), "none": Estimate(0.5, np.nan, np.nan, 9, "one prompt only").to_dict()}
    assert parts_of(share, "t")[0].table.rows == [["share", "0.500 [0.250, 0.750]"], ["none", "0.500 one prompt only"]]
    long = printed(Table(("k",), [(k,) for k in range(1000)]))
    assert len(long.rows) == 200
    assert "800 of 1,000 rows are not shown" in long.note
    assert flat({"a": {"b": 1}, "c": {}}) == [("a.b", 1), ("c", {})]
    assert cut("x" * 5000).count("x") == 4000
