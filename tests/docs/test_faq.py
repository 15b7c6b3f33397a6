"""What the page of questions says of systems without the locks of Unix."""

import subprocess
import sys

import pytest

WITHOUT_LOCKS = "import sys; sys.modules['fcntl'] = None; "


@pytest.mark.slow
@pytest.mark.exhaustive
def test_without_the_locks_of_unix_there_is_the_core_and_the_packed_file_but_no_training():
    there = "import packnet_pl.core; from packnet_pl import PackNet, load_packed, save_packed"
    assert subprocess.run([sys.executable, "-c", WITHOUT_LOCKS + there]).returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS + "import packnet_pl.training"], capture_output=True, text=True
    )
    assert "fcntl" in done.stderr.splitlines()[-1]
