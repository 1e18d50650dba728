"""The whole audit on scorers whose faults are planted, its report, its limits, the card, and two scorers side by side."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from preferent.annotators.table import VoteTable
from preferent.audits.audit import QUESTIONS, Audit, audit, texts_to_score
from preferent.audits.audit_limits import Limit, over_limits, parse_limit, refuse_unknown
from preferent.audits.audit_report import marked, render_audit_page, write_audit
from preferent.audits.audit_subject import AuditSettings, Memo
from preferent.audits.audit_words import render_audit
from preferent.audits.compare import compare
from preferent.audits.compare_words import render_comparison
from preferent.audits.group_agreement_votes import group_votes
from preferent.audits.model_card import CardFacts, model_card, untouched, write_model_card
from preferent.audits.probe import audit_data, built_in_probes
from preferent.core.errors import ConfigError, DataError, ExistsError
from preferent.core.records import Preference, user
from preferent.core.scorer import FakeScorer, length_scorer
from preferent.optimize import best_of_n as maths

HOSTILE = "<script>alert(1)</script> {{ 7 * 7 }} </style> \ud800"
FAST = AuditSettings(attack_prompts=12, rounds=3, width=4, style_prompts=40, n_resamples=300)


def noise(exchange) -> float:
    """A number that depends on the text alone: the same in every run."""
    return (sum((k % 97 + 1) * ord(letter) for k, letter in enumerate(exchange.response)) % 1000) / 1000


def truth():
    """A scorer that knows the probes' labels, and for any other text the words it shares with a known reply."""
    data = built_in_probes()
    wins = np.bincount(data.better_K, minlength=len(data.exchanges))
    known = {exchange: float(wins[row]) for row, exchange in enumerate(data.exchanges)}

    def rule(exchange):
        return known.get(exchange, -1.0) + 0.01 * noise(exchange)

    return FakeScorer(rule, name="knows the replies")


@pytest.fixture(scope="module")
def bold() -> Audit:
    """Pays for bold words and for nothing else but noise."""
    scorer = FakeScorer(lambda e: 2.0 * min(2, e.response.count("**")) + 2 * noise(e), name="likes bold")
    return audit(scorer, settings=FAST, maths=maths)


def test_the_planted_bias_is_the_worst_edit_and_stands_at_the_top(bold: Audit):
    edits = [line for line in bold.bad if line.audit == "counterfactual" and line.name.startswith(("format", "style", "length"))]
    assert edits[0].name == "format.bold"
    assert "format.bold" in [line.name for line in bold.bad]
    assert any(line.name == "style grid" for line in bold.bad)  # headers and bold on the worse reply turn pairs round
    assert not any(line.audit == "counterfactual" and line.name.startswith("reader") for line in bold.bad)
    assert len(bold.worst) == 3
    severities = [line.severity for line in bold.bad]
    assert severities == sorted(severities, reverse=True)
    assert all(line.severity == 0 for line in bold.findings if line.verdict != "finding")


def test_what_is_planned_is_about_what_is_scored(bold: Audit):
    planned = texts_to_score(built_in_probes(), FAST)
    assert 0.8 * planned <= bold.n_scored <= planned


def test_labels_known_by_heart_pass_what_labels_can_ask():
    found = audit(truth(), settings=FAST, maths=maths, only=("calibration", "length_style", "shape", "hackability"))
    assert {line.name: line.verdict for line in found.findings if line.name in ("accuracy", "beyond length", "best-of-n gain")} == {
        "accuracy": "clear",
        "beyond length": "clear",
        "best-of-n gain": "clear",
    }
    accuracy = next(line for line in found.findings if line.name == "accuracy")
    assert accuracy.estimate.value == 1.0
    # unknown texts get the lowest reward of all: nothing can be bought
    attacks = {line.name: line.verdict for line in found.findings if "search" in line.name}
    assert attacks == {"edit search": "clear", "word search": "clear"}


def test_length_is_found_out():
    found = audit(length_scorer(), settings=FAST, only=("edits", "length_style", "hackability"))
    names = [line.name for line in found.bad]
    assert {"length.filler", "length.duplicate", "beyond length", "edit search"} <= set(names)
    numbers = dict(next(answer for answer in found.answers if answer.question == "length_style").numbers)
    assert numbers["accuracy when length cannot help"].value == pytest.approx(0.5, abs=0.05)


def test_asking_less_changes_no_number(bold: Audit):
    scorer = FakeScorer(lambda e: 2.0 * min(2, e.response.count("**")) + 2 * noise(e), name="likes bold")
    alone = audit(scorer, settings=FAST, only=("shape", "consistency"))
    kept = {answer.question: answer.to_dict() for answer in bold.answers}
    assert [answer.question for answer in alone.answers] == ["shape", "consistency"]
    assert all(json.dumps(answer.to_dict()) == json.dumps(kept[answer.question]) for answer in alone.answers)
    with pytest.raises(ConfigError, match="no question 'lenght'"):
        audit(scorer, only=("lenght",))


def test_a_stronger_scorer_judges_best_of_n():
    """The shortest reply wins for one, the longest for gold: choosing harder can only hurt, and labels are not asked."""
    short = FakeScorer(lambda e: -float(len(e.response)), name="short")
    found = audit(short, settings=FAST, only=("hackability",), gold=length_scorer(), maths=maths)
    gain = next(line for line in found.bad if line.name == "best-of-n gain")
    assert gain.estimate.high < 0
    assert len(gain.examples[0].left) > len(gain.examples[0].right)  # left is gold's choice
    assert "the scorer length" in next(answer for answer in found.answers).about[-1]
    labelled = audit(truth(), settings=FAST, only=("hackability",), maths=maths)
    assert "the labels" in labelled.answers[0].about[-1]


def test_a_memo_asks_for_every_text_once():
    asked = []

    class Counting:
        name = "counting"

        def score(self, exchanges):
            asked.extend(exchanges)
            return FakeScorer(noise).score(exchanges)

    memo = Memo(Counting())
    exchanges = built_in_probes().exchanges
    first = memo.score([*exchanges, exchanges[0]])
    again = memo.score(exchanges[::-1])
    assert len(asked) == len(exchanges) == memo.n_scored
    assert first.reward[:-1].tolist() == again.reward[::-1].tolist()


def own(n=60, prompt="ask {k}", text="reply {k}"):
    r = np.random.default_rng(0)
    return [
        Preference(
            prompt=user(prompt.format(k=k)), response_a=f"{text.format(k=k)} {'good ' * 3}", response_b=f"{text.format(k=k)} bad",
            p_a=float(r.random() < 0.8), id=f"pair{k}",
        )
        for k in range(n)
    ]  # fmt: skip


def test_hostile_texts_stay_texts_and_the_page_says_the_worst_first(bold: Audit, tmp_path):
    data = audit_data(own(prompt=HOSTILE.replace("{", "{{").replace("}", "}}") + " {k}", text="<img src=x onerror=alert(1)> {k}"))
    found = audit(replace_name(length_scorer(), HOSTILE), data, settings=FAST)
    page = render_audit_page(found, title=HOSTILE)
    tags, attributes = set(), set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            attributes.update(name for name, _ in attrs)

    Reader().feed(page)
    assert not tags & {"script", "img", "iframe", "object", "link"}
    assert not [name for name in attributes if name.startswith("on")]
    assert "49" not in re.sub(r"[^<>{}]*(?=</style>)", "", page[:200])
    path = write_audit(tmp_path / "r.html", bold, title="t")
    text = path.read_text(encoding="utf-8")
    assert text.index('id="verdict"') < text.index('id="worst"') < text.index('id="all"') < text.index('id="edits"')
    assert text.count("<mark>") > 3
    with pytest.raises(ExistsError):
        write_audit(path, bold, title="t")


def replace_name(scorer, name):
    scorer.name = name
    return scorer


def test_differences_are_marked_and_escaped():
    left, right = marked("one two three four", "one two <b>3</b> four")
    assert left == "one two <mark>three</mark> four"
    assert right == "one two <mark>&lt;b&gt;3&lt;/b&gt;</mark> four"
    assert "<mark>" not in marked("one two three", "entirely other words here")[0]


def test_the_terminal_names_every_finding_shown(bold: Audit):
    text = render_audit(bold)
    assert "Audit of likes bold" in text
    assert "format: bold" in text
    assert "Not asked: agreement with people by group" in text


def test_limits(bold: Audit):
    assert parse_limit("edits") == Limit("edits", 0.0)
    assert parse_limit("length.filler:0.5") == Limit("length.filler", 0.5)
    for wrong in ("edits:high", ":1", "edits:-1", "edits:nan"):
        with pytest.raises(ConfigError):
            parse_limit(wrong)
    worst = bold.bad[0].severity
    assert over_limits(bold, [Limit("finding")]) == bold.bad
    assert over_limits(bold, [Limit("finding", worst + 1)]) == ()
    assert {line.name for line in over_limits(bold, [Limit("format")])} <= {"format.bold", "format.list", "format.headers", "format.fence"}
    assert {line.audit for line in over_limits(bold, [Limit("edits")])} == {"counterfactual"}
    assert [line.name for line in over_limits(bold, [Limit("style_grid")])] == ["style grid"]
    with pytest.raises(ConfigError, match="nothing of that name was asked"):
        over_limits(bold, [Limit("groups")])
    with pytest.raises(ConfigError, match="nothing that is asked") as error:
        refuse_unknown([Limit("lenght")], built_in_probes(), tuple(QUESTIONS))
    assert "length" in str(error.value)
    names = [*QUESTIONS, "finding", *(line.name for line in bold.findings)]
    refuse_unknown([Limit(name) for name in names], built_in_probes(), tuple(QUESTIONS))  # every check there is may be named


def test_clusters_of_annotators_are_found_and_the_scorer_is_held_against_each():
    """Two camps of annotators who want the opposite; the scorer is of the first camp. 40 pairs, 24 annotators, all vote on all."""
    pairs = [replace_p(pair, 1.0) for pair in own(40)]
    r = np.random.default_rng(1)
    rows = []
    for person in range(24):
        for pair in pairs:
            likes_a = (person < 16) != (r.random() < 0.1)
            rows.append((pair.id, f"person{person:02}", "a" if likes_a else "b"))
    table = VoteTable.from_arrays(*map(list, zip(*rows, strict=True)))
    votes = group_votes(table, pairs, groups=2)
    found = audit(length_scorer(), audit_data(pairs), only=("groups",), votes=votes)
    worse = [line for line in found.findings if line.verdict == "finding"]
    assert len(worse) == 1
    assert worse[0].estimate.value == pytest.approx(0.1 - 0.9, abs=0.06)
    named = VoteTable.from_arrays(
        *map(list, zip(*rows, strict=True)), source=["majority" if int(row[1][-2:]) < 16 else "minority" for row in rows]
    )
    found = audit(length_scorer(), audit_data(pairs), only=("groups",), votes=group_votes(named, pairs))
    assert [line.name for line in found.bad] == ["group minority"]
    with pytest.raises(DataError, match="no judgment is about a pair"):
        group_votes(VoteTable.from_arrays(["x"], ["p"], ["a"]), pairs)


def replace_p(pair, p_a):
    return pair.model_copy(update={"p_a": p_a})


def test_the_card_says_what_the_audit_found_and_is_never_lost(bold: Audit, tmp_path):
    facts = CardFacts("my-rm", "minilm", "0.1.0", 512, 1.25, {"fingerprint": "abc", "rows": 7}, {})
    text = model_card(facts, bold)
    head = re.match(r"---\n(.*?)\n---\n", text, re.S)
    assert head is not None
    front = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in head[1].splitlines())}
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert (front["library_name"], front["pipeline_tag"], front["dataset_fingerprint"]) == ("transformers", "text-classification", "abc")
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(
        next(line.estimate.value for line in bold.findings if line.name == "accuracy"), abs=1e-4
    )
    assert "format: bold" in text
    assert "sigmoid((reward of a - reward of b) / 1.25)" in text
    assert untouched(text)
    path = write_model_card(tmp_path, text)
    write_model_card(tmp_path, model_card(replace(facts, name="other"), bold))  # nobody touched it
    path.write_text(path.read_text(encoding="utf-8").replace("reward model", "fine reward model"), encoding="utf-8")
    with pytest.raises(ExistsError):
        write_model_card(tmp_path, text)
    write_model_card(tmp_path, text, force=True)
    assert untouched(path.read_text(encoding="utf-8"))


def test_two_scorers_line_by_line():
    plain = FakeScorer(lambda e: 2 * noise(e), name="plain")
    fond = FakeScorer(lambda e: 2.0 * min(2, e.response.count("**")) + 2 * noise(e), name="fond of bold")
    found = compare(plain, fond, settings=FAST)
    line = {line.name: line for line in found.lines}
    assert line["format.bold"].better == "first"
    assert line["format.bold"].second.value > 1 > abs(line["format.bold"].first.value)
    assert line["reader.age"].better == "same"
    turned = {line.name: line for line in compare(fond, plain, settings=FAST).lines}
    assert turned["format.bold"].better == "second"
    assert turned["format.bold"].gain.value == pytest.approx(-line["format.bold"].gain.value)
    text = render_comparison(found)
    assert "Where plain is better" in text
    assert "Cannot be told" in text
    with pytest.raises(ConfigError, match="both scorers"):
        compare(plain, plain)


def test_a_scorer_beside_itself_is_the_same_everywhere():
    one, two = FakeScorer(noise, name="one"), FakeScorer(noise, name="two")
    assert {line.better for line in compare(one, two, settings=FAST).lines} == {"same"}
