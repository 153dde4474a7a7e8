"""The report over many ranks as JSON, back again, and the JSON Schema of both."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from diagnose.errors import TraceError
from diagnose.schema import SCHEMA_VERSION
from diagnose.tables.ranks import RANKS_SCHEMA_VERSION, RanksDocument

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Version(msgspec.Struct):
    schema_version: int


def ranks_to_json(document: RanksDocument, indent: int = 2) -> str:
    """The whole report as JSON text; ``indent`` 0 gives one line."""
    encoded = msgspec.json.encode(document)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def ranks_from_json(data: bytes | str) -> RanksDocument:
    """The report that ``ranks_to_json`` wrote. Raises TraceError for anything else, or another version's."""
    try:
        met = msgspec.json.decode(data, type=_Version).schema_version
        if met != RANKS_SCHEMA_VERSION:
            raise TraceError(
                f"this report has schema_version {met}, and this version of torch-diagnose reads "
                f"{RANKS_SCHEMA_VERSION}: make the report again from its traces"
            )
        return msgspec.json.decode(data, type=RanksDocument)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TraceError(f"this is not a report over ranks of torch-diagnose: {error}") from error


def ranks_json_schema_text() -> str:
    """What the committed ``ranks.schema.json`` holds: JSON Schema (draft 2020-12), closed."""
    (root,), definitions = msgspec.json.schema_components([RanksDocument], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    definitions["RanksDocument"]["properties"]["schema_version"] = {"const": RANKS_SCHEMA_VERSION}
    definitions["Document"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    schema: dict[str, Any] = {
        "$schema": _DIALECT, "title": "A report of torch-diagnose over many ranks", **root, "$defs": definitions,
    }  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2).decode() + "\n"
