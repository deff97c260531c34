"""A small campaign that nothing happened to, faults in copies of it, and a table of the faults."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import numpy
import pytest
from drivers import Driver
from PIL import Image

from trials.cli import main

SEED = 20261128
HERE = Path(__file__).parent
TABLE = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[TABLE] = []
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy")


def pytest_terminal_summary(terminalreporter, config):
    faults = config.stash[TABLE]
    if not faults:
        return
    terminalreporter.section(f"{len(faults)} faults")
    terminalreporter.write_line("| fault | moment | what happened | end |\n|---|---|---|---|")
    for row in faults:
        terminalreporter.write_line(f"| {' | '.join(row)} |")


@pytest.fixture
def note_fault(request):
    """Return a function that adds a row to the table of faults."""

    def note(fault, moment, happened, end):
        cells = [str(cell).replace("|", "/")[:160] for cell in (fault, moment, happened, end)]
        request.config.stash[TABLE].append(cells)

    return note


@pytest.fixture
def draws(request):
    """Return the random numbers of one test: the same in every run of it."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(autouse=True)
def isolated(workplace, tmp_path, monkeypatch):
    """Work in an empty folder, with a cache of the tests' own, no server and no cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """Write the protocol, and its images: random blocks, eight classes of ten."""
    folder = tmp_path_factory.mktemp("faults")
    shutil.copy(HERE / "mini.yaml", folder)
    pixels = numpy.random.default_rng(SEED)
    for person in range(8):
        (folder / "photos" / f"p{person}").mkdir(parents=True)
        for shot in range(10):
            blocks = pixels.integers(256, size=(5, 5, 3), dtype=numpy.uint8)
            image = Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1))
            image.save(folder / "photos" / f"p{person}" / f"{shot}.png")
    return folder


@pytest.fixture(scope="session")
def mini(workplace):
    """Return the path of the protocol."""
    return workplace / "mini.yaml"


@pytest.fixture(scope="session")
def long(workplace):
    """Return the path of the same protocol with units that train long enough to be met."""
    path = workplace / "long.yaml"
    text = (HERE / "mini.yaml").read_text().replace("epochs: 1", "epochs: 10", 1)
    path.write_text(text.replace("name: mini", "name: long"))
    return path


@pytest.fixture(scope="session")
def outcomes_of():
    """Return a function that reads the outcomes in a folder, but for their seconds."""

    def read(folder):
        found = {}
        for path in sorted(folder.glob("units/*/outcome.json")):
            outcome = json.loads(path.read_bytes())
            found[path.parent.name] = {
                name: value for name, value in outcome.items() if name not in ("seconds", "sha256")
            }
        return json.dumps(found)

    return read


@pytest.fixture(scope="session")
def end_of(table_of, outcomes_of):
    """Return a function that reads the end of a campaign: its record and its outcomes."""
    return lambda folder, uri="": f"{table_of(folder, uri)}\n{outcomes_of(folder)}"


@pytest.fixture(scope="session")
def whole(workplace, end_of):
    """Return a function that runs a protocol undisturbed once: its folder and its end."""
    made = {}

    def run(protocol):
        if protocol not in made:
            folder = workplace / f"undisturbed-{protocol.stem}"
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # a test's own server
                one = Driver(workplace / f"{protocol.stem}.log", folder, "run", protocol)
                assert one.wait() == 0, one.said()
                made[protocol] = folder, end_of(folder)
        return made[protocol]

    return run


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.line = (err.strip() or out.strip()).splitlines()[-1:] or [""]
        self.line = self.line[0]


@pytest.fixture
def atat(capfd):
    """Return a function that runs a command here; whatever it meets, it prints no traceback."""

    def run(*words):
        capfd.readouterr()
        code = None
        with suppress(SystemExit):
            code = main(list(map(str, words)))
        said = Said(code, *capfd.readouterr())
        shown = said.out + said.err
        assert "Traceback" not in shown, shown
        assert "unexpected " not in said.err, shown
        assert code in (0, 1, 2), shown
        if code == 2:
            assert said.err.startswith("atat: "), shown
            assert len(said.err.splitlines()) == 1, shown
        return said

    return run
