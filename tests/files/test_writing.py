"""Files are written completely or not at all, whatever ends the process, with the permissions of a file of `open`."""

import contextlib
import os
import resource
import signal
import stat
import sys
import warnings

import numpy as np
import pytest

import fidfast
from fidfast._errors import with_message
from fidfast._files import npz_path, require_writable, write_whole

STATS = fidfast.GaussianStats(np.arange(40.0), np.diag(np.arange(1.0, 41.0)))


@pytest.fixture(params=["nameless", "named"])
def temporary(request, monkeypatch):
    """Temporary files without a name, and those of other systems."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("needs Linux")
    return request.param


def write(path, text="new"):
    with write_whole(path) as file:
        file.write(text.encode())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask(monkeypatch):
    """A umask that nobody may change, since other threads would use the changed one."""
    old = os.umask(0o027)
    with monkeypatch.context() as context:
        context.setattr(os, "umask", lambda mask: pytest.fail("umask is a property of the process"))
        yield 0o027
    os.umask(old)


def test_permissions(tmp_path, temporary, umask):
    path = tmp_path / "a"
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    for mode in (0o600, 0o664, 0o777):
        path.chmod(mode)
        write(path, str(mode))
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (str(mode), mode)
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root gives files to others")
def test_the_owner_is_kept(tmp_path, temporary):
    write(tmp_path / "a")
    os.chown(tmp_path / "a", 12345, 54321)
    write(tmp_path / "a")
    status = (tmp_path / "a").stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)


def test_links_are_followed(tmp_path, temporary):
    (tmp_path / "folder").mkdir()
    for name in ("file", "dangling"):
        (tmp_path / name).symlink_to(f"folder/{name}")
    (tmp_path / "folder" / "file").write_text("old")
    for name in ("file", "dangling"):
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "folder" / name).read_text() == "new"
    assert names(tmp_path / "folder") == ["dangling", "file"]


def test_the_longest_name(tmp_path, temporary):
    path = tmp_path / ("é" * 125 + "x.npz")  # 255 bytes
    STATS.save(path)
    assert fidfast.GaussianStats.load(path) == STATS
    assert names(tmp_path) == [path.name]


@contextlib.contextmanager
def full_disk():
    """Files end at 4 KB, as on a full disk. Not a fixture, since pytest could not write its report to a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk(tmp_path, temporary, existing):
    path = tmp_path / "x.npz"
    if existing:
        path.write_bytes(b"old")
    moments = fidfast.Moments.from_features(np.random.default_rng(0).normal(size=(90, 40)))
    for save in (STATS.save, moments.save):
        with pytest.raises(OSError, match=r"^cannot write .*x\.npz: File too large"), full_disk():
            save(path)
        assert names(tmp_path) == ["x.npz"] * existing
        assert not existing or path.read_bytes() == b"old"


def killed_while_writing(path):
    """Write a part of a file in a process that is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other threads, which the child does not need
        child = os.fork()
    if child == 0:
        with write_whole(path) as file:
            file.write(b"a part")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_killed_process_leaves_no_file(tmp_path, temporary):
    write(tmp_path / "a", "old")
    write(tmp_path / "b", "other")
    killed_while_writing(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    assert len(names(tmp_path)) == (2 if temporary == "nameless" else 3)
    write(tmp_path / "b")  # another file: the temporary one stays
    assert len(names(tmp_path)) == (2 if temporary == "nameless" else 3)
    write(tmp_path / "a")
    assert names(tmp_path) == ["a", "b"]


def test_two_writers_of_one_file(tmp_path, temporary):
    """The temporary file of a process that is alive is not removed."""
    path = tmp_path / "a"
    with write_whole(path) as first:
        first.write(b"first")
        write(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_an_error_keeps_the_old_file(tmp_path, temporary):
    write(tmp_path / "a", "old")
    for error in (ValueError, KeyboardInterrupt):
        with contextlib.suppress(error), write_whole(tmp_path / "a") as file:
            file.write(b"a part")
            raise error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


IMPOSSIBLE = {
    "": "the name of the file to write is empty",
    "-": "the output is a file, not standard output: pass its name instead of -",
    "folder": "folder is a folder: pass the name of a file to write",
    "folder/": "folder/ is the name of a folder: pass the name of a file to write",
    "new/": "new/ is the name of a folder: pass the name of a file to write",
    "gone/a": "no such folder to write to: gone",
    "file/a": "no such folder to write to: file",
    "loop": "cannot write loop: Too many levels of symbolic links",
    "fifo": "cannot write fifo: it is not a regular file",
    "/dev/null": "cannot write /dev/null: it is not a regular file",
    "x" * 300: f"cannot write {'x' * 300}: File name too long",
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_files_that_cannot_be_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    os.mkfifo("fifo")
    os.symlink("loop", "loop")
    open("file", "w").close()
    before = sorted(os.listdir())
    with pytest.raises(OSError) as caught:
        require_writable(name)
    assert str(caught.value) == IMPOSSIBLE[name]
    with pytest.raises(OSError):
        write(name)
    assert sorted(os.listdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
def test_a_write_protected_file(tmp_path):
    write(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(PermissionError, match="it is write-protected"):
        write(tmp_path / "a")


@pytest.mark.parametrize(
    ("given", "written"), [("a", "a.npz"), ("a.npz", "a.npz"), ("a.pt", "a.pt.npz"), (".npz", ".npz"), ("a.", "a..npz")]
)
def test_the_suffix(tmp_path, given, written):
    STATS.save(tmp_path / given)
    assert names(tmp_path) == [written]
    assert npz_path(tmp_path / given) == str(tmp_path / written)


class LibraryError(ValueError):
    def __init__(self, code, text):
        super().__init__(code, text)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), UnicodeError),
        (KeyError("a"), LookupError),
        (OSError(28, "No space left on device", "a"), OSError),
        (PermissionError(13, "Permission denied"), PermissionError),
        (LibraryError(1, "a"), ValueError),
        (TypeError("a"), TypeError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_errors_with_another_message(error, kind):
    made = with_message(error, "where: why")
    assert (type(made), str(made)) == (kind, "where: why")
    assert isinstance(error, type(made))
    assert getattr(made, "errno", None) == getattr(error, "errno", None)
