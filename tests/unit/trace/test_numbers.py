"""Times come from decimal text, whatever the spelling, to the nanosecond."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.trace.numbers import nanoseconds


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0", 0),
        ("1", 1_000),
        ("1.5", 1_500),
        ("1.05", 1_050),
        ("1.005", 1_005),
        ("1712195495519689.251", 1_712_195_495_519_689_251),  # a double gives ...689.25
        ("9999999999999999.999", None),  # 1e19 ns do not fit 63 bits
        ("4398046511103.999", 4_398_046_511_103_999),
        ("-3.25", -3_250),
        ("-0.001", -1),
        ('"12.5"', 12_500),  # some writers quote numbers
        ("1.5e3", 1_500_000),
        ("1E-3", 1),
        ("1.7121954955196893e15", 1_712_195_495_519_689_300),
        ("1.0000", 1_000),
        ("12.3456", 12_346),  # more digits than a nanosecond has: rounded
        ("0000000000000000000000000000001.5", 1_500),
        ("", None),
        ("null", None),
        ("true", None),
        ("NaN", None),
        ("Infinity", None),
        ('"soon"', None),
        ("[1]", None),
        ("{}", None),
        ("1.2.3", None),
        ("--1", None),
        (".", None),
        ("-", None),
        ("1e400", None),
        ("\u0661", None),  # a digit, but no JSON number
    ],
)
def test_every_spelling_of_a_time(text: str, expected_ns: int | None) -> None:
    values, valid = nanoseconds([text.encode()])
    assert values.dtype == np.int64
    assert valid.tolist() == [expected_ns is not None]
    assert values.tolist() == [expected_ns or 0]


def test_one_odd_value_does_not_disturb_its_neighbours() -> None:
    plain = [f"{1_712_195_495_519_000 + row}.{row:03d}" for row in range(500)]
    mixed = [text.encode() for text in plain]
    mixed[250] = b'"never"'
    values, valid = nanoseconds(mixed)
    kept = [row for row in range(500) if row != 250]
    assert valid.tolist() == [row != 250 for row in range(500)]
    assert values[kept].tolist() == [int(Decimal(plain[row]) * 1000) for row in kept]


def test_no_values() -> None:
    values, valid = nanoseconds([])
    assert len(values) == len(valid) == 0


@given(st.lists(st.decimals(min_value=-(10**15), max_value=10**15, places=3, allow_nan=False), min_size=1, max_size=20))
def test_decimal_agrees(times: list[Decimal]) -> None:
    values, valid = nanoseconds([str(time).encode() for time in times])
    assert valid.all()
    assert values.tolist() == [int(time * 1000) for time in times]


@given(
    st.lists(
        st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 3), st.sampled_from(["{}", '"{}"', "{}e0"])),
        min_size=1,
        max_size=10,
    )
)
def test_every_number_of_decimals_in_one_column(parts: list[tuple[int, int, str]]) -> None:
    numbers = [Decimal(value).scaleb(-places) for value, places, _ in parts]
    texts = [form.format(format(number, "f")) for number, (_, _, form) in zip(numbers, parts, strict=True)]
    values, valid = nanoseconds([text.encode() for text in texts])
    assert valid.all()
    assert values.tolist() == [int(number * 1000) for number in numbers]
