"""The report as JSON, back again, and the JSON Schema of both."""  # the room's modules bear the format's name

from __future__ import annotations

from typing import Any, Final

import msgspec

from diagnose.errors import TraceError
from diagnose.schema import SCHEMA_VERSION, Document

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Version(msgspec.Struct):
    schema_version: int


def to_json(document: Document, indent: int = 2) -> str:
    """The whole report as JSON text; ``indent`` 0 gives one line."""
    encoded = msgspec.json.encode(document)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def from_json(data: bytes | str) -> Document:
    """The report that ``to_json`` wrote. Raises TraceError for text that is no such report, or another version's."""
    try:
        met = msgspec.json.decode(data, type=_Version).schema_version
        if met != SCHEMA_VERSION:
            raise TraceError(
                f"this report has schema_version {met}, and this version of torch-diagnose reads {SCHEMA_VERSION}: "
                "make the report again from its trace"
            )
        return msgspec.json.decode(data, type=Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TraceError(f"this is not a report of torch-diagnose: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the document, closed: a key that it does not name is an error."""
    (root,), definitions = msgspec.json.schema_components([Document], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    definitions["Document"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {"$schema": _DIALECT, "title": "A report of torch-diagnose", **root, "$defs": definitions}


def json_schema_text() -> str:
    """What the committed ``report.schema.json`` holds."""
    return msgspec.json.format(msgspec.json.encode(json_schema(), order="sorted"), indent=2).decode() + "\n"
