"""Files: written whole or not at all, with the permissions of any new file; text files that people wrote."""

from __future__ import annotations

import hashlib
import os
import sys

import pytest

from ditlens import files
from ditlens.errors import StudyError, SuiteError
from ditlens.files import checksum, read_csv, read_json, read_lines, read_text, write_whole, writing_whole

# --- writing --------------------------------------------------------------------------------------------------


@pytest.fixture
def umask():
    """A mask that lets groups read and write, and nobody else."""
    before = os.umask(0o007)
    yield 0o007
    os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_are_those_of_a_new_file(tmp_path, umask):
    """safetensors' own files can be read by their owner only."""
    import torch
    from safetensors.torch import save_file

    write_whole(tmp_path / "a", "text")
    with writing_whole(tmp_path / "b") as partial:
        save_file({"x": torch.ones(2)}, partial)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o660, 0o660]


def test_file_systems_that_refuse_permissions_and_to_flush_folders(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.Path, "chmod", refuse)
    monkeypatch.setattr(files.os, "open", refuse)
    write_whole(tmp_path / "a", b"all of it")
    assert (tmp_path / "a").read_bytes() == b"all of it"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_somebody_reads_is_replaced_when_they_have_done(tmp_path, monkeypatch):
    """On Windows a file that is open cannot be replaced."""
    replace, tries, free_at = os.replace, [], 3

    def locked(*paths):
        tries.append(paths)
        if len(tries) < free_at:
            raise PermissionError(13, "The process cannot access the file")
        replace(*paths)

    monkeypatch.setattr(files.os, "replace", locked)
    monkeypatch.setattr(files, "WAITS", (0.001,) * 5)
    write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new" and len(tries) == 3
    free_at = 100
    with pytest.raises(PermissionError, match="cannot access"):
        write_whole(tmp_path / "a", "newer")
    assert (tmp_path / "a").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_block_that_fails_writes_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), writing_whole(tmp_path / "sub" / "a") as partial:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_checksum(tmp_path):
    data = bytes(range(256)) * 5000  # more than one block
    write_whole(tmp_path / "a", data)
    assert checksum(tmp_path / "a") == hashlib.sha256(data).hexdigest()


# --- reading --------------------------------------------------------------------------------------------------

WORDS = "Zoë\u2028smiles\u0085\x0b\x0c\x1c!\r\nnext\n\nlast"
LINES = ["Zoë\u2028smiles\u0085\x0b\x0c\x1c!", "next", "", "last"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_end_at_newlines_only(tmp_path, encoding, end):
    path = tmp_path / "a.txt"
    path.write_bytes((WORDS + end).encode(encoding))
    assert read_lines(path, "a list", StudyError) == LINES


def test_both_byte_orders_and_an_empty_file(tmp_path):
    path = tmp_path / "a.txt"
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        path.write_bytes(mark + WORDS.encode(encoding))
        assert read_text(path, "a list", StudyError) == WORDS
    for nothing in (b"", b"\xef\xbb\xbf", b"\xff\xfe"):
        path.write_bytes(nothing)
        assert read_lines(path, "a list", StudyError) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("ab\ncafé".encode("latin-1"), "at line 2, column 4, the byte 0xE9 is not UTF-8. Save it as UTF-8"),
        ("é\nab".encode("utf-16-le"), "at line 1, column 1, the byte 0xE9 is not UTF-8"),
        ("ab\ncd".encode("utf-16-le"), "at line 1, column 2, there is a NUL character"),
        (b"\xff\xfea\0\n\0b\0\0\xd8", "at line 2, column 2, the byte 0x00 is not UTF-16"),
        ("ab".encode("utf-32"), "at line 1, column 1, there is a NUL character"),
    ],
)
def test_what_is_not_text_is_an_error_with_its_place(tmp_path, data, said):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(SuiteError) as caught:
        read_text(path, "a list of edits", SuiteError)
    assert str(caught.value).startswith(f"{path} cannot be read as a list of edits: {said}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StudyError, match=r"none.txt cannot be read as a list: No such file.*Check its name"):
        read_lines(tmp_path / "none.txt", "a list", StudyError)
    with pytest.raises(StudyError, match="cannot be read as a list: .*irectory|ermission"):
        read_lines(tmp_path, "a list", StudyError)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('\ufeff{"name": "Zoë"}'.encode())
    assert read_json(path, "settings", StudyError) == {"name": "Zoë"}
    for text, said in (
        ('{"a": 1,\n "b" 2}', r"not valid JSON at line 2, column 6 \(Expecting ':' delimiter\)"),
        ("[1]", "not a JSON object"), ("[" * 100_000, "nested too deeply"), ("", "line 1, column 1"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(StudyError, match=f"a.json is damaged: as settings it is .*{said}.*Restore it"):
            read_json(path, "settings", StudyError)
    path.write_text("{}")
    with pytest.raises(StudyError, match="not a JSON list"):
        read_json(path, "records", StudyError, expect=list)


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('name,wish\r\nZoë,"a ""big"" smile,\nand\u2028hair"\r\nBo\r\n'.encode("utf-16"))
    columns, rows = read_csv(path, "a table", StudyError)
    assert columns == ["name", "wish"]
    assert rows == [{"name": "Zoë", "wish": 'a "big" smile,\nand\u2028hair'}, {"name": "Bo", "wish": ""}]
    path.write_text('name,wish\nZoë,"smile"s\n', "utf-8")
    with pytest.raises(StudyError, match=r"a.csv is damaged: as a table it is not valid CSV at line 2"):
        read_csv(path, "a table", StudyError)
    path.write_text("")
    assert read_csv(path, "a table", StudyError) == ([], [])
