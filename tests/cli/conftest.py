import pytest
from command_line import train


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """One run of the real command with debug=tiny, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("a folder with spaces")
    done = train("debug=tiny", "hydra.run.dir=run a", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run a", done
