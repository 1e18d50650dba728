"""Wire shapes of reward servers, one file each, and how a URL names one.

`openrlhf+http://host:5000`, `vllm+http://host:8000`, `tei+http://host:8080`; a path chooses the route (`/get_reward`; `/classify`,
`/pooling`, `/score`; `/predict`, `/rerank`) and, where it is one of these, also names the shape by itself. `?model=NAME` is the model that
a vLLM server is asked for.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from preferent.core.errors import ConfigError
from preferent.serving.dialects.dialect import Dialect
from preferent.serving.dialects.openrlhf import OpenRlhf
from preferent.serving.dialects.tei import ROUTES as TEI_ROUTES
from preferent.serving.dialects.tei import Tei
from preferent.serving.dialects.vllm import ROUTES as VLLM_ROUTES
from preferent.serving.dialects.vllm import Vllm

NAMES = ("openrlhf", "vllm", "tei")
_URL = re.compile(r"(?:(?P<name>[a-z]+)\+)?(?P<rest>https?://.+)", re.IGNORECASE)
FORMS = "openrlhf+http://host:port, vllm+http://host:port[/classify|/pooling|/score][?model=NAME], tei+http://host:port[/predict|/rerank]"


def is_url(word: str) -> bool:
    """Whether a word names a server."""
    return _URL.fullmatch(word) is not None


def from_url(word: str, *, dialect: str | None = None) -> tuple[str, Dialect]:
    """(base URL, shape) of a word for which `is_url` holds. Raises ConfigError where the shape cannot be told or the word says two."""
    match = _URL.fullmatch(word)
    if match is None:
        raise ConfigError(f"{word!r} is not the URL of a reward server", hint=FORMS)
    parts = urlsplit(match["rest"])
    said = (match["name"] or dialect or _by_route(parts.path) or "").lower()
    if dialect is not None and said != dialect.lower():
        raise ConfigError(f"{word!r} says the shape {said!r}, and {dialect!r} was asked for")
    if said not in NAMES:
        found = f"{said!r} is no shape of a reward server" if said else "the URL does not say the shape of the server"
        raise ConfigError(f"{word!r}: {found}; allowed: {', '.join(NAMES)}", hint=FORMS)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    model = options.pop("model", None)
    if options or (model is not None and said != "vllm"):
        raise ConfigError(f"{word!r}: unknown options {sorted(options) or ['model']}; allowed: model, for vllm", hint=FORMS)
    prefix, route = _split(parts.path, {"openrlhf": ("/get_reward",), "vllm": VLLM_ROUTES, "tei": TEI_ROUTES}[said])
    base = urlunsplit((parts.scheme, parts.netloc, prefix, "", ""))
    if said == "openrlhf":
        # Its clients are given the whole address, whatever the path.
        return base, OpenRlhf(path=route or "/get_reward") if prefix == "" or route else OpenRlhf(path="")
    if said == "vllm":
        return base, Vllm(route=route or VLLM_ROUTES[0], model=model)
    return base, Tei(route=route or TEI_ROUTES[0])


def _by_route(path: str) -> str | None:
    """The shape that a path belongs to."""
    routes = {"/get_reward": "openrlhf"} | dict.fromkeys(VLLM_ROUTES, "vllm") | dict.fromkeys(TEI_ROUTES, "tei")
    return next((name for route, name in routes.items() if path.rstrip("/").endswith(route)), None)


def _split(path: str, routes: tuple[str, ...]) -> tuple[str, str | None]:
    """(what comes before the route, the route); a path that ends in no route is all prefix."""
    path = path.rstrip("/")
    for route in routes:
        if path.endswith(route):
            return path[: -len(route)], route
    return path, None
