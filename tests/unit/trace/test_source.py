"""Bytes from a path, a URL or a file object; plain or gzip; errors that name the file and the reason."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import isal
import pytest

from diagnose.errors import TraceError
from diagnose.trace import source
from diagnose.trace.source import name_of, read_bytes

CONTENT = b'{"traceEvents": []}'


def test_a_path_as_text_or_path_plain_or_compressed(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    for path in (plain, packed):
        assert read_bytes(path) == CONTENT
        assert read_bytes(str(path)) == CONTENT


def test_compression_is_seen_in_the_bytes_not_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(gzip.compress(CONTENT))
    assert read_bytes(path) == CONTENT


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(CONTENT[:7]) + gzip.compress(CONTENT[7:]))
    assert read_bytes(path) == CONTENT


def test_a_file_object_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        assert name_of(file) == str(path)
        assert read_bytes(file) == CONTENT
    nameless = io.BytesIO(gzip.compress(CONTENT))
    assert name_of(nameless) is None
    assert read_bytes(nameless) == CONTENT


def test_a_url(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(CONTENT))
    assert read_bytes(path.as_uri()) == CONTENT


@pytest.mark.parametrize("url", ["nosuchprotocol://x/y.json", "file:///no/such/file.json"])
def test_a_url_that_does_not_open_is_one_error(url: str) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_bytes(url)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nothing\.json: cannot be read: No such file"):
        read_bytes(tmp_path / "nothing.json")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(b"")
    with pytest.raises(TraceError, match=r"trace\.json: is empty"):
        read_bytes(path)


def test_named_gzip_without_being_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(CONTENT)
    with pytest.raises(TraceError, match=r"is named \.gz but is not gzip"):
        read_bytes(path)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_gzip_cut_off(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "trace.json.gz"
    packed = gzip.compress(bytes(range(256)) * 400)
    path.write_bytes(packed[: int(len(packed) * kept)])
    with pytest.raises(TraceError, match="gzip data is cut off or damaged"):
        read_bytes(path)


def test_gzip_damaged(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    packed = bytearray(gzip.compress(bytes(range(256)) * 400))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(TraceError, match="gzip data is cut off or damaged"):
        read_bytes(path)


def test_decompression_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b"0" * ((1 << 20) + 1)))
    with pytest.raises(TraceError, match="when decompressed"):
        read_bytes(path)
    path.write_bytes(gzip.compress(b"0" * (1 << 20)))
    assert len(read_bytes(path)) == 1 << 20


def test_a_text_file_object_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="binary"):
        read_bytes(io.StringIO("{}"))  # type: ignore[arg-type]


def test_a_member_whose_trailer_fits_the_whole_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(CONTENT) * 2)  # the last length is the first member's, too
    assert read_bytes(path) == CONTENT * 2


@pytest.mark.parametrize("tail", [b"\0" * 4, b"\0" * 512])
def test_padding_behind_the_last_member_is_no_content(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(CONTENT) + tail)
    assert read_bytes(path) == CONTENT


def test_a_length_that_lies_costs_nothing_but_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    packed = gzip.compress(CONTENT)
    for claimed in (0, 1, len(CONTENT) - 1, len(CONTENT) + 1, (1 << 32) - 1):
        path.write_bytes(packed[:-4] + claimed.to_bytes(4, "little"))
        with pytest.raises(TraceError, match="gzip data is cut off or damaged"):
            read_bytes(path)


def test_the_usual_file_is_unpacked_into_memory_of_the_right_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # The reader of any file gathers pieces and joins them, which takes twice the time and the memory.
    monkeypatch.setitem(sys.modules, "isal.igzip", None)
    monkeypatch.delattr(isal, "igzip", raising=False)
    assert read_bytes(io.BytesIO(gzip.compress(CONTENT * 1000))) == CONTENT * 1000
