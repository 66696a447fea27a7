"""Files: written whole or not at all, with the permissions of any new file; text files that people wrote."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from ditlens import files
from ditlens.errors import SettingError, StudyError, SuiteError, WriteError
from ditlens.files import (
    checksum,
    read_csv,
    read_json,
    read_lines,
    read_text,
    user_path,
    write_whole,
    writing_folder,
    writing_whole,
)

# --- paths that people give -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("me.png", "me.png"), ("~", "{home}"), ("~/me.png", "{home}/me.png"), (Path("~/me.png"), "{home}/me.png"),
        ("'me too.png'", "me too.png"), ('"~/me.png"', "{home}/me.png"), ("'", "'"), ("it's", "it's"),
        ("file:///a/me%20too.png", "/a/me too.png"), ("FILE://localhost/a/%23.png", "/a/#.png"),
        (Path("file:///a/b.png"), "/a/b.png"), ("'file:///a/b.png'", "/a/b.png"), ("file:///C:/a.png", "C:/a.png"),
        ("C:/a.png", "C:/a.png"), ("a:b", "a:b"), (".", "."),
    ],
)  # fmt: skip
def test_paths_as_people_give_them(given, meant, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert user_path(given) == Path(meant.format(home=tmp_path))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "not empty"), ("  ", "not empty"), (None, "got None"), (3, "got 3"), (b"a", "got b'a'"),
        ("a\0b", r"'a.x00b' holds a character that no file's name can have \(embedded null byte\)"),
        ("\ud800", "holds a character that no file's name can have"),
        ("a" * 300, "^'aaaa.{96,}'... is a name too long for the file system. Choose a shorter one"),
        ("https://a.org/b.png", r"is an address \(https://\), not a file. Download it first"),
        ("s3://bucket/b.png", r"is an address \(s3://\)"),
        ("file://server/b.png", "is a file of another computer, server. Copy it to this one first"),
        ("file://[home/b.png", "is no address that can be read"),
        ("~nobody-like-this/b.png", "There is no user 'nobody-like-this'. For a name that .* ./~nobody"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_path_is_refused_with_the_reason(given, why, wrong_types):
    for error in (SettingError, StudyError):
        with pytest.raises(error, match=why):
            user_path(given, error)


def test_a_file_whose_name_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~nobody-like-this").touch()
    assert user_path("~nobody-like-this") == Path("~nobody-like-this")


# --- writing --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o077, 0o007, 0o002], ids=oct)
def umask(request):
    """Who may not do what with new files: for private ones, for those of a group, for those that a group writes."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_are_those_of_a_new_file(tmp_path, umask):
    """safetensors' own files can be read by their owner only."""
    import torch
    from safetensors.torch import save_file

    write_whole(tmp_path / "a", "text")
    with writing_whole(tmp_path / "b") as partial:
        save_file({"x": torch.ones(2)}, partial)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o666 & ~umask] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_files_of_a_folder_that_a_library_writes(tmp_path, umask):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "other").touch()
    with writing_folder(tmp_path / "model") as place:
        (place / "sub").mkdir()
        (place / "sub" / "a").write_text("all of it")
        (place / "sub" / "a").chmod(0o600)
        assert [path.name for path in tmp_path.rglob("*")] == ["model", "other"], "nothing yet"
    assert (tmp_path / "model" / "sub" / "a").read_text() == "all of it"
    assert (tmp_path / "model" / "sub" / "a").stat().st_mode & 0o777 == 0o666 & ~umask
    assert sorted(path.name for path in (tmp_path / "model").rglob("*")) == ["a", "other", "sub"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_file_that_was_there_keeps_its_permissions(tmp_path, umask):
    for mode in (0o600, 0o644, 0o666):
        (tmp_path / "a").write_text("old")
        (tmp_path / "a").chmod(mode)
        write_whole(tmp_path / "a", "new")
        assert ((tmp_path / "a").read_text(), (tmp_path / "a").stat().st_mode & 0o777) == ("new", mode)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("old")
    (tmp_path / "a").symlink_to(tmp_path / "there" / "a")
    (tmp_path / "b").symlink_to("there/b")
    for name in "ab":
        write_whole(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / "there" / name).read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "a", "b", "b", "there"]


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "a"])
def test_names_as_long_as_the_file_system_takes(tmp_path, name):
    write_whole(tmp_path / name, "all of it")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(WriteError, match="could not be written: File name too long. Choose a shorter name"):
        write_whole(tmp_path / ("a" * 256), "all of it")


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a", Path(os.devnull)):
        with pytest.raises(
            WriteError, match="could not be written: It is a folder or a device. Choose another"
        ):
            write_whole(path, "text")
    (tmp_path / "b").touch()
    with pytest.raises(WriteError, match=r"b.c could not be written: "):
        write_whole(tmp_path / "b" / "c", "text")


def test_inputs_are_kept(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    files.keep_inputs([tmp_path / "b", tmp_path / "c"], [tmp_path / "a", tmp_path / "gone"])
    for output in ("a", "link", "../" + tmp_path.name + "/a"):
        with pytest.raises(SettingError, match="is what this was made from: it is never overwritten"):
            files.keep_inputs([tmp_path / "b", tmp_path / output], [tmp_path / "gone", tmp_path / "a"])


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
    with pytest.raises(
        WriteError, match="a could not be written: The process cannot access the file. Choose"
    ):
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
