"""What the chat template does: renders, keeps every word, is the same tomorrow, ends where the reward is read.

Legend: N exchanges.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from preferent.models.doctor.measured import Measured
from preferent.models.doctor.patient import Input, Patient
from preferent.models.doctor.report import Check
from preferent.models.render import messages_of

_DATE_CALL = re.compile(r"strftime_now\s*\([^)]*\)")
DATES = ("'01 Jan 2020'", "'30 Sep 2031'")


def check_template(patient: Patient, measured: Measured) -> Check:
    """There is one, it renders conversations between user and assistant, and every word of them is in the text."""
    tokenizer = patient.tokenizer
    if tokenizer is None:
        return Check("chat template", None, "no tokenizer", patient.trouble or "")
    if not tokenizer.chat_template:
        return Check("chat template", False, "none", "every tool joins prompt and response in its own way; here they were given as a pair",
                     "save the tokenizer with the chat_template that was used in training")  # fmt: skip
    n_rendered = len(measured.exchanges) + measured.too_long
    n = n_rendered + len(measured.refusals)
    figure = f"{n_rendered} of {n} conversations rendered"
    lost = [
        x.response for x in measured.exchanges if any(m["content"] not in _text(tokenizer, x) for m in messages_of(x.prompt, x.response))
    ]
    if measured.refusals:
        return Check("chat template", False, figure, measured.refusals[0], "the template must take user and assistant turns")
    if lost:
        return Check("chat template", False, f"{len(lost)} of {n} conversations lose words", f"for one, around {lost[0][:40]!r}",
                     "the reward cannot depend on what the template drops; use one that keeps every turn whole")  # fmt: skip
    return Check("chat template", True, figure + ", every word kept")


def _text(tokenizer: Any, exchange: Any, **kwargs: Any) -> str:
    return tokenizer.apply_chat_template(messages_of(exchange.prompt, exchange.response), tokenize=False, **kwargs)


def check_date(patient: Patient, measured: Measured) -> Check:
    """Today's score is tomorrow's: the template does not print the date."""
    template = _default_template(patient)
    if template is None:
        return Check("date", None, "no chat template")
    if "strftime_now" not in template:
        return Check("date", True, "the template does not ask for the date")
    figure = "the template prints today's date"
    if measured.reward_N is not None:
        by_date = []
        for date in DATES:
            frozen = _DATE_CALL.sub(date, template)
            by_date.append(patient.rewards([patient.encode(x, chat_template=frozen) for x in measured.exchanges]))
        figure += (
            f"; between two dates the reward moves by up to {np.abs(by_date[0] - by_date[1]).max():.2g} (spread {measured.spread:.2g})"
        )
    return Check(
        "date", False, figure, "the same exchange scores otherwise tomorrow", "replace strftime_now(...) in the template by a fixed date"
    )


def _default_template(patient: Patient) -> str | None:
    template = None if patient.tokenizer is None else patient.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()))
    return template or None


def check_bos(patient: Patient, measured: Measured) -> Check:
    """Tokenising the rendered text the usual way adds no second BOS or CLS."""
    tokenizer = patient.tokenizer
    if tokenizer is None or not tokenizer.chat_template or not measured.exchanges:
        return Check("doubled BOS", None, "no chat template")
    usual = [Input(tuple(tokenizer(_text(tokenizer, x), verbose=False)["input_ids"])) for x in measured.exchanges]
    own, first = measured.inputs[0].ids, usual[0].ids
    if all(a.ids == b.ids for a, b in zip(usual, measured.inputs, strict=True)):
        return Check("doubled BOS", True, "tokenising the rendered text adds nothing")
    shift = "" if measured.reward_N is None else (
        f"; the reward moves by up to {np.abs(patient.rewards(usual) - measured.reward_N).max():.2g} (spread {measured.spread:.2g})"
    )  # fmt: skip
    doubled = first[:2] == (own[0], own[0])
    what = f"two {tokenizer.convert_ids_to_tokens(own[0])} at the start" if doubled else f"{len(first) - len(own)} special tokens added"
    return Check("doubled BOS", False, what + shift, "template and tokenizer both add special tokens",
                 "tokenise rendered text with add_special_tokens=False, or take them out of the tokenizer's post-processor")  # fmt: skip


def check_end(patient: Patient, measured: Measured) -> Check:
    """Nothing that invites another turn follows the response."""
    tokenizer = patient.tokenizer
    if tokenizer is None or not tokenizer.chat_template or not measured.exchanges:
        return Check("template end", None, "no chat template")
    exchange = measured.exchanges[0]
    tail = _text(tokenizer, exchange).rpartition(exchange.response)[2]
    prompt = messages_of(exchange.prompt)
    bare, invited = (tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=flag) for flag in (False, True))
    header = invited.removeprefix(bare).strip() if invited.startswith(bare) else ""
    figure = f"{tail!r} follows the response"
    if "assistant" in tail.lower() or (header and tail.strip().endswith(header)):
        return Check("template end", False, figure, "a generation prompt follows the response: the reward is read on it, not on the answer",
                     "let the template add it only when add_generation_prompt is set")  # fmt: skip
    return Check("template end", True, figure)
