"""What a command answers to an error."""

import errno

import pytest

from packnet_pl.cli.errors import answering_errors
from packnet_pl.run.journal import DamagedRunError

LOST = "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:24731"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DamagedRunError("finished.json\ncannot be read"), 2, "packnet-train: finished.json cannot be read\n"),
        (OSError(errno.ENOSPC, "No space left"), 2, "packnet-train: [Errno 28] No space left\n"),
        (RuntimeError(LOST), 1, "packnet-train: another process of this run has ended\n"),
    ],
)
def test_one_line_and_a_code(capsys, error, code, said):
    with pytest.raises(SystemExit) as ended, answering_errors("packnet-train"):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("x"), OSError(errno.EIO, "broken disk")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), answering_errors("packnet-train"):
        raise error
