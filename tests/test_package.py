# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.

"""What is built of the package holds all of it, and works outside of the checkout."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from conftest import make_blend
from lsst.meas.residualdetect.io.scene_file import write_scene_file

ROOT = Path(__file__).parents[1]
DATA = ("bps", "config", "models", "pipelines", "schemas")

slow = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """Run a command that sees nothing of the checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MEAS_RESIDUALDETECT_DIR")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist of the files as they are now, in a history of their own."""
    pytest.importorskip("setuptools_scm", reason="needs setuptools-scm, of the extra test")
    source = tmp_path_factory.mktemp("source")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all"), ("tag", "v7.8.9")):
        run(*git, *command, cwd=source)
    out = tmp_path_factory.mktemp("dist")
    for kind in ("sdist", "wheel"):
        build = f"import setuptools.build_meta as backend, sys; backend.build_{kind}(sys.argv[1])"
        run(sys.executable, "-c", build, out, cwd=source)
    return out


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
def python(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment into which the wheel or the sdist was installed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    interpreter = folder / "bin" / "python"
    own = Path(
        run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # What the package depends on; an editable install is not seen from here.
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(_dependencies())))
    (archive,) = built.glob(request.param)
    run(
        *(sys.executable, "-m", "pip", "--python", interpreter, "install"),
        *("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", archive),
        cwd=folder,
    )
    return interpreter


def _dependencies() -> list[str]:
    own = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    return [*own, *(path for path in sys.path if path.endswith("site-packages"))]


def test_every_file_of_models_pipelines_and_config_is_to_be_installed(tracked):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    held = {
        f"{folder.removeprefix('share/meas_residualdetect/')}/{path.name}"
        for folder, patterns in settings["data-files"].items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    assert {name for name in tracked if name.partition("/")[0] in DATA} <= held


@slow
def test_the_version_is_the_tag(built):
    assert {path.name for path in built.iterdir()} == {
        "lsst_meas_residualdetect-7.8.9-py3-none-any.whl",
        "lsst_meas_residualdetect-7.8.9.tar.gz",
    }


@slow
def test_the_wheel_holds_every_model_pipeline_and_config(built, tracked):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    share = "lsst_meas_residualdetect-7.8.9.data/data/share/meas_residualdetect/"
    held = {name.removeprefix(share) for name in names if name.startswith(share)}
    assert held == {name for name in tracked if name.partition("/")[0] in DATA}
    package = {name.removeprefix("python/") for name in tracked if name.startswith("python/")}
    # The wheels of the stack bring the folder lsst.
    assert package - set(names) <= {"lsst/__init__.py", "lsst/meas/__init__.py"}


@slow
def test_the_sdist_holds_what_a_clone_does(built, tracked):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked) <= held


@slow
def test_an_installed_package_works_in_an_empty_folder(python, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    where = run(
        *(python, "-c", "import lsst.meas.residualdetect as it; print(it.__version__, it.__file__)"),
        cwd=folder,
    )
    assert where.startswith("7.8.9 ") and str(python.parents[1]) in where
    write_scene_file(folder / "blend.npz", make_blend(1))
    residualdetect = (python.parent / "residualdetect",)
    run(*residualdetect, "detect", "blend.npz", "--out", "new.csv", cwd=folder)
    assert (folder / "new.csv").read_text().startswith("scene,y,x,score,area,parent\n")
    said = run(*residualdetect, "ingest", "repo", "blend.npz", cwd=folder)
    # The command that ingest says: with the package's own path of the pipeline.
    command = said.rpartition("now: pipetask ")[2].split()
    assert str(python.parents[1]) in command[command.index("-p") + 1]
    pipetask = (python, "-c", "from lsst.ctrl.mpexec.cli.pipetask import main; main()")
    run(*pipetask, *command, cwd=folder)
    run(*residualdetect, "report", "repo", "residuals", "--out", "report.html", cwd=folder)
    assert (folder / "report.html").stat().st_size > 10_000


def test_the_workflow_runs_what_there_is_on_the_versions_that_are_promised():
    text = (ROOT / ".github" / "workflows" / "test.yaml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {words.rpartition(" ")[2] for words in project["classifiers"] if "Python :: 3." in words}
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == promised
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = [shlex.split(step["run"]) for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {words[1] for words in runs if words[0] == "make"} == {"test", "test-slow", "docs"} <= targets
    for words in runs:
        for word in words:
            assert not word.startswith("tests/") or (ROOT / word).is_file(), word
            extras = re.fullmatch(r"\.\[(.*)\]", word)
            assert not extras or set(extras[1].split(",")) <= project["optional-dependencies"].keys(), word
