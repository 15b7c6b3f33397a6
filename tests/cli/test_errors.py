"""What a command answers to an error."""

import errno
import signal
import sys

import pytest

from packnet_pl.errors import answering_errors
from packnet_pl.run.task_record import DamagedRunError

LOST = "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:24731"


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DamagedRunError("finished.json\ncannot be read"), 2, "packnet-train: finished.json cannot be read\n"),
        (OSError(errno.ENOSPC, "No space left"), 2, "packnet-train: [Errno 28] No space left\n"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            2,
            "packnet-train: [Errno 20] Not a directory: 'a/b'\n",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "a"), 2, "packnet-train: [Errno 17] File exists: 'a'\n"),
        (
            caused(ValueError("Unable to configure handler 'file'"), OSError(errno.ENOSPC, "No space left", "run.log")),
            2,
            "packnet-train: Unable to configure handler 'file': [Errno 28] No space left: 'run.log'\n",
        ),
        (RuntimeError(LOST), 1, "packnet-train: another process of this run has ended\n"),
    ],
)
def test_one_line_and_a_code(capsys, error, code, said):
    with pytest.raises(SystemExit) as ended, answering_errors("packnet-train"):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err == said


def lightnings_answer():
    """A fit that Ctrl-C ends."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("interrupted", [signal.default_int_handler, lightnings_answer], ids=["before", "in a fit"])
def test_ctrl_c_is_answered_in_one_line_wherever_it_comes(capsys, interrupted):
    arguments = (signal.SIGINT, None) if interrupted is signal.default_int_handler else ()
    with pytest.raises(SystemExit) as ended, answering_errors("packnet-train"), answering_errors("packnet-train"):
        interrupted(*arguments)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "packnet-train: stopped by SIGINT\n"


@pytest.mark.parametrize("code", [0, 1, 2])
def test_other_ends_keep_their_code(capsys, code):
    with pytest.raises(SystemExit) as ended, answering_errors("packnet-train"):
        sys.exit(code)
    assert (ended.value.code, capsys.readouterr().err) == (code, "")


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("x"), OSError(errno.EIO, "broken disk")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), answering_errors("packnet-train"):
        raise error
