"""The command line, run in this process."""

import pytest

from trials.cli import program as cli


@pytest.fixture
def atat(capsys):
    """Return a function that runs a command; it returns exit code, stdout and stderr."""

    def call(*words):
        code = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
