"""One render and tokenise function: what is dropped, what stays, and no date."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("transformers")

from preferent.core.errors import ModelError
from preferent.core.records import Exchange, Message, user
from preferent.models.render import (
    DECODER_TEMPLATE,
    ENCODER_TEMPLATE,
    RenderSpec,
    messages_of,
    prepare_template,
    prints_date,
    tokenize,
    without_own_specials,
)

LONG = Exchange(prompt=user("early " * 60 + "question"), response="softly the river opens")


def whole(tokenizer: Any, exchange: Exchange) -> list[int]:
    messages = messages_of(exchange.prompt, exchange.response)
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


@pytest.fixture
def encoder(encoder_tokenizer: Any) -> Any:
    tokenizer = copy.deepcopy(encoder_tokenizer)
    prepare_template(tokenizer)
    return tokenizer


def test_short_exchanges_are_the_template_and_nothing_else(decoder_tokenizer: Any, exchanges: list[Exchange]) -> None:
    for exchange, tokens in zip(exchanges, tokenize(decoder_tokenizer, exchanges, RenderSpec(max_length=10_000)), strict=True):
        assert list(tokens.ids) == whole(decoder_tokenizer, exchange)
        assert (tokens.dropped, tokens.response_cut) == (0, False)


def test_a_long_prompt_loses_its_beginning_and_the_response_survives(decoder_tokenizer: Any) -> None:
    full = whole(decoder_tokenizer, LONG)
    (tokens,) = tokenize(decoder_tokenizer, [LONG], RenderSpec(max_length=40))
    assert list(tokens.ids) == full[-40:]
    assert tokens.dropped == len(full) - 40
    assert not tokens.response_cut
    assert LONG.response in decoder_tokenizer.decode(tokens.ids)


def test_cls_stays_when_an_encoder_is_cut(encoder: Any) -> None:
    full = whole(encoder, LONG)
    (tokens,) = tokenize(encoder, [LONG], RenderSpec(max_length=40))
    assert tokens.ids[0] == encoder.cls_token_id
    assert list(tokens.ids[1:]) == full[-39:]
    # 40 are kept of the whole; the CLS is one of them, so the prompt loses one token more than the row.
    assert tokens.dropped == len(full) - 40
    assert not tokens.response_cut


def test_bos_stays_when_the_template_writes_it(decoder_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(decoder_tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    (tokens,) = tokenize(tokenizer, [LONG], RenderSpec(max_length=30))
    assert tokens.ids[0] == tokenizer.bos_token_id
    (plain,) = tokenize(tokenizer, [LONG], RenderSpec(max_length=30, keep_first=False))
    assert list(plain.ids) == whole(tokenizer, LONG)[-30:]


def test_a_response_longer_than_the_limit_is_cut_and_flagged(decoder_tokenizer: Any) -> None:
    exchange = Exchange(prompt=user("a question"), response="the letter walks " * 30)
    full = whole(decoder_tokenizer, exchange)
    prompt = decoder_tokenizer.apply_chat_template(messages_of(exchange.prompt), add_generation_prompt=True, return_dict=False)
    n_response = len(full) - len(prompt)
    for limit, cut in ((n_response, False), (n_response - 1, True)):
        (tokens,) = tokenize(decoder_tokenizer, [exchange], RenderSpec(max_length=limit))
        assert len(tokens.ids) == limit
        assert tokens.response_cut is cut


def test_nothing_gives_nothing(decoder_tokenizer: Any) -> None:
    assert tokenize(decoder_tokenizer, [], RenderSpec(max_length=5)) == []


def test_templates_are_given_where_there_are_none(encoder_tokenizer: Any, decoder_tokenizer: Any) -> None:
    encoder, decoder = copy.deepcopy(encoder_tokenizer), copy.deepcopy(decoder_tokenizer)
    decoder.chat_template = None
    prepare_template(encoder)
    prepare_template(decoder)
    assert encoder.chat_template == ENCODER_TEMPLATE
    assert decoder.chat_template == DECODER_TEMPLATE
    exchange = Exchange(prompt=user("hello"), response="well")
    assert encoder.decode(whole(encoder, exchange)) == "[CLS]user: hello[SEP]assistant: well[SEP]"
    assert decoder.decode(whole(decoder, exchange)) == "user: hello<|im_end|>assistant: well<|im_end|>"
    ids = decoder.apply_chat_template(messages_of(exchange.prompt), add_generation_prompt=True, return_dict=False)
    assert decoder.decode(ids) == "user: hello<|im_end|>assistant: "


def test_a_dated_template_is_frozen(decoder_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(decoder_tokenizer)
    tokenizer.chat_template = "{{ 'Today: ' + strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    assert prints_date(tokenizer)
    prepare_template(tokenizer)
    assert not prints_date(tokenizer)
    assert tokenizer.decode(whole(tokenizer, LONG)).startswith("Today: 26 Jul 2024")


def test_a_conversation_the_template_refuses_names_the_roles(decoder_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(decoder_tokenizer)
    refuse = "{% if m['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    tokenizer.chat_template = "{% for m in messages %}" + refuse + "{{ m['content'] }}{% endfor %}"
    prompt = (Message(role="system", content="be brief"), Message(role="user", content="hello"))
    with pytest.raises(ModelError, match=r"no system turn.*system"):
        tokenize(tokenizer, [Exchange(prompt=prompt, response="well")], RenderSpec(max_length=50))


def test_text_and_ids_agree_once_the_tokenizer_adds_nothing(encoder: Any) -> None:
    text = encoder.apply_chat_template(messages_of(LONG.prompt, LONG.response), tokenize=False)
    assert encoder(text)["input_ids"][:2] == [encoder.cls_token_id] * 2
    silent = without_own_specials(encoder)
    assert silent(text)["input_ids"] == whole(silent, LONG)
    assert (silent.cls_token_id, silent.pad_token_id, silent.model_max_length) == (1, 0, 512)
    assert without_own_specials(silent) is silent
