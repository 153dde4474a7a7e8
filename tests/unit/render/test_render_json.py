"""The JSON report: written, read back, described by the schema in the package."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import jsonschema
import msgspec
import pytest
from report_documents import gpu_document

import diagnose.render.json as render
from diagnose.errors import TraceError
from diagnose.schema import SCHEMA_VERSION

SCHEMA_FILE = Path(render.__file__).parents[1] / "report.schema.json"


def test_the_committed_schema_is_the_generated_one():
    hint = "regenerate it: python -c 'from diagnose.render.json import json_schema_text as t; print(t(), end=\"\")'"
    assert SCHEMA_FILE.read_text() == render.json_schema_text(), hint


def test_every_report_is_valid_and_the_schema_is_a_schema(document):
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(render.to_json(document)))


def test_read_back_is_equal(document):
    assert render.from_json(render.to_json(document)) == document
    assert render.from_json(render.to_json(document, indent=0).encode()) == document


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(surprise=1),
        lambda report: report["kernels"][0].update(surprise=1),
        lambda report: report["kernels"][0].update(flops="many"),
        lambda report: report["kernels"][0].update(bound="slow"),
        lambda report: report["waterfall"][0].update(ns=-1),
        lambda report: report.pop("verdict"),
        lambda report: report.update(schema_version=99),
    ],
)
def test_the_schema_is_closed(change):
    report = json.loads(render.to_json(gpu_document()))
    change(report)
    assert not jsonschema.Draft202012Validator(render.json_schema()).is_valid(report)


def test_keys_stand_as_the_design_names_them():
    report = json.loads(render.to_json(gpu_document()))
    named = (
        "schema_version tool source recording devices ceilings ridges window totals verdict waterfall coverage "
        "kernels findings notes"
    )
    assert " ".join(report).startswith(f"{named} ")  # what came later stands behind
    assert report["window"]["epoch_ns"] == "1700000000000000123"  # a double would lose its last digits


def test_the_unknown_is_null():
    report = json.loads(render.to_json(gpu_document()))
    row = next(row for row in report["kernels"] if row["kernel"] == "triton_mystery_fused_7")
    assert (row["flops"], row["bytes_read"], row["efficiency"], row["bound"]) == (None, None, None, None)


def test_parts_of_the_written_report_add_up(document):
    """By the JSON text alone, without the program's types."""
    report = json.loads(render.to_json(document))
    sums: defaultdict[tuple, int] = defaultdict(int)
    shares: defaultdict[tuple, float] = defaultdict(float)
    for row in report["waterfall"]:
        sums[row["device"], row["step"]] += row["ns"]
        shares[row["device"], row["step"]] += row["share"]
    for (_, step), ns in sums.items():
        window = report["window"]
        assert ns == (window["wall_ns"] if step is None else window["steps"][step]["wall_ns"])
    assert all(share == pytest.approx(1) for share in shares.values())
    if report["kernels"]:
        assert sum(row["share"] for row in report["kernels"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a report of torch-diagnose"),
        ("[1, 2]", "this is not a report of torch-diagnose"),
        ('{"traceEvents": []}', "missing required field `schema_version`"),
        (f'{{"schema_version": {SCHEMA_VERSION}}}', "missing required field `tool`"),
        ('{"schema_version": 99}', "this report has schema_version 99, and this version of torch-diagnose reads"),
        ('{"schema_version": 1, "tool": ' + "[" * 100_000, "this is not a report of torch-diagnose"),
        (b'{"schema_version": 1, "tool": "\xff"}', "this is not a report of torch-diagnose"),
    ],
)
def test_what_is_no_report_is_one_clear_error(text, message):
    with pytest.raises(TraceError, match=message):
        render.from_json(text)


def test_a_negative_time_is_refused():
    text = render.to_json(gpu_document()).replace('"time_ns": 3600000', '"time_ns": -5', 1)
    with pytest.raises(TraceError, match=r"time_ns"):
        render.from_json(text)


def test_the_schema_describes_what_the_types_hold():
    """Every field of every type is in the schema, required unless it came later and has a default."""
    definitions = render.json_schema()["$defs"]
    for name, definition in definitions.items():
        first = [field for field, value in definition["properties"].items() if "default" not in value]
        assert definition["required"] == first, name
    assert set(definitions["KernelRow"]["properties"]) == set(msgspec.structs.asdict(gpu_document().kernels[0]))
