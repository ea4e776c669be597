"""GPU names become file names by escaping, never by trust."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.storage.names import file_stem


def test_ordinary_names_stay_readable() -> None:
    assert file_stem("node-1/0") == "node-1%2f0"
    assert file_stem("GPU-5fd4f087-86f3").startswith("GPU-5fd4f087-86f3~")


def test_names_cannot_leave_the_directory() -> None:
    for name in ("../../etc/passwd", "..", ".", "", "/", "a\0b", "a\nb", "C:\\x", "~", "😀"):
        stem = file_stem(name)
        assert not stem.startswith(".")
        assert not set(stem) & set("/\\\0\n:")


def test_twins_that_differ_in_case_get_files_of_their_own() -> None:
    names = ["gpu-a", "GPU-A", "Gpu-a", "gpu-A", "gpu%2da", "GPU-A~x"]
    assert len({file_stem(name).lower() for name in names}) == len(names)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), unique=True))
def test_no_two_names_share_a_file_and_none_is_too_long(names: list[str]) -> None:
    stems = [file_stem(name) for name in names]
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all(len(stem) <= 200 and stem.isascii() for stem in stems)


def test_ten_kilobytes_of_name_fit() -> None:
    assert file_stem("x" * 10_000) != file_stem("x" * 9_999 + "y")
    assert len(file_stem("😀" * 10_000)) <= 200
