"""The numerics of ``atat_ray`` need torch alone."""

import subprocess
import sys
from pathlib import Path

import atat_ray

ROOT = Path(atat_ray.__file__).parent
HEAVY = ("ray", "mlflow", "pandas", "pydantic", "yaml", "optuna", "matplotlib", "scipy")
BLOCK = f"""
import sys

sys.modules.update(dict.fromkeys({HEAVY + ("trials", "analysis")!r}))  # None: ImportError
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def modules():
    paths = [path.relative_to(ROOT.parent).with_suffix("") for path in ROOT.rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return sorted(name for name in names if name != "atat_ray.unit.distributed")


def test_importing_the_package_loads_neither_ray_nor_mlflow_nor_pandas():
    done = run("import atat_ray, sys; print(*{m.partition('.')[0] for m in sys.modules})")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {*HEAVY, "torch"}


def test_every_module_imports_where_only_torch_is_installed():
    done = run(BLOCK + "".join(f"import {name}\n" for name in modules()))
    assert done.returncode == 0, done.stderr


def test_a_model_trains_and_is_inverted_where_only_torch_is_installed():
    done = run(
        BLOCK
        + """
from atat_ray.data import Data, load_split
from atat_ray.defenses import DEFENSES
from atat_ray.models import build_target
from atat_ray.training import Training, train

split = load_split(Data(name="orl_faces", num_private=4, num_train=7, size=32), 0)
model = build_target("small_resnet", num_classes=4, channels=1, seed=0)
training = Training(epochs=1, batch_size=14, learning_rate=0.001, weight_decay=0.0)
print(len(train(model, split.train, DEFENSES["none"](), training, seed=0)))
"""
    )
    assert done.stdout == "1\n", done.stderr
