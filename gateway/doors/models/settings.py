"""What REST says of a model's settings: a JSON object of the keys of `model.toml`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from common.errors import InvalidRequest, TooLarge
from common.media import Options
from common.model_file import MAX_CHARACTERS, ModelSettingsError, settings_of
from common.models import DEFAULTS, ModelSettings
from gateway.doors.exchange import read_json
from gateway.models.catalog import DEFAULT_MODEL

Values = dict[str, Any]
_decoder = msgspec.json.Decoder(Any)  # which of its fields are wrong `settings_of` says


async def read_settings(request: Request) -> Values:
    """The object in a body, not yet looked into; `InvalidRequest` if there is none, `TooLarge`."""
    if len(await request.body()) > MAX_CHARACTERS:
        raise TooLarge(f"the settings of a model have at most {MAX_CHARACTERS} bytes")
    table = await read_json(request, _decoder)
    if not isinstance(table, dict):
        raise InvalidRequest('the body should be an object of settings, like {"max_batch": 64}')
    return table


def replaced(table: Values, model: str, before: ModelSettings) -> ModelSettings:
    """What the body of a PUT makes of a model's settings: what it leaves out is back at its default.

    Of the default model that is what `set_weights` has it loaded by.
    """
    base = DEFAULTS
    if model == DEFAULT_MODEL:
        base = msgspec.structs.replace(
            base, runtime=before.runtime, architecture=before.architecture, keep_versions=before.keep_versions
        )
    return _checked(shown(base) | table)


def merged(table: Values, before: ModelSettings) -> ModelSettings:
    """What the body of a PATCH makes of them (RFC 7396): what it leaves out stays, null is the default."""
    return _checked(_patched(shown(before), table, DEFAULTS))


def _patched(before: Values, patch: Values, defaults: Options | ModelSettings) -> Values:
    after = before | patch
    for key, value in patch.items():
        own = getattr(defaults, key, None)
        if value is None:
            del after[key]
        elif isinstance(value, dict) and isinstance(own, Options):
            after[key] = _patched(before.get(key, {}), value, own)
    return after


def shown(settings: ModelSettings) -> Values:
    """What a body would have said; what is as by default is left out."""
    values: Values = msgspec.to_builtins(settings)
    return values


def _checked(table: Values) -> ModelSettings:
    try:
        return settings_of(table)
    except ModelSettingsError as error:
        raise InvalidRequest("; ".join(error.mistakes)) from None
