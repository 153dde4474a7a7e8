"""What is installed is what is in the tree, and it gets in nobody's way."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

SHIPPED = ("diagnose", "kernels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def _run(*command: str | Path, cwd: Path) -> str:
    """The command's output; what it printed is in the failure when it fails."""
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def _environment(folder: Path) -> tuple[Path, Path]:
    """An empty environment's python and site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    return python, Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder))


def _borrow(site: Path) -> None:
    """Lends an environment this one's packages. Their own .pth files stay unread: no editable install comes along."""
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if "-packages" in Path(path).name))


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as an index would have it, in a copy: a build writes into its tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        if (repo / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repo / name, tree / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(repo / name, tree / name)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tree / "dist", tree, cwd=tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a fresh environment that holds the wheel and borrows the dependencies."""
    folder = tmp_path_factory.mktemp("fresh")
    python, site = _environment(folder)
    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel, cwd=folder)
    _borrow(site)
    return python


def test_wheel_holds_every_source_file_of_the_tree(repo: Path, wheel: Path) -> None:
    tree = {path.relative_to(repo).as_posix() for path in (repo / "diagnose").rglob("*.py")}
    tree = {name for name in tree if not name.startswith("diagnose/kernels/")}
    tree |= {f"diagnose/kernels/{path.name}" for path in (repo / "kernels").glob("*.py")}

    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.endswith(".py")}

    assert shipped == tree


def test_wheel_holds_every_data_file_of_the_package(repo: Path, wheel: Path) -> None:
    data = {
        path.relative_to(repo).as_posix()
        for path in (repo / "diagnose").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "kernels" not in path.parts[:-1]
    }

    with zipfile.ZipFile(wheel) as archive:
        missing = data - set(archive.namelist())

    assert not missing
    assert {"diagnose/py.typed", "diagnose/report.schema.json"} <= data


def test_installed_wheel_imports_from_outside_the_tree(repo: Path, installed: Path, tmp_path: Path) -> None:
    # One module is Triton's, which is not everywhere.
    probes = sorted({path.stem for path in (repo / "kernels").glob("*.py")} - {"triton_kernels"})
    assert probes, "no probe kernels to import"
    imports = "".join(f"import diagnose.kernels.{name}\n" for name in probes)

    where = _run(installed, "-c", f"import diagnose\n{imports}print(diagnose.__file__)", cwd=tmp_path)

    assert Path(where).is_relative_to(installed.parents[1]), "the wheel was not what was imported"


def test_installed_wheel_puts_no_package_named_kernels_on_the_path(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('kernels'))"

    assert _run(installed, "-c", code, cwd=tmp_path) == "None"


def test_installed_command_and_module_answer(installed: Path, tmp_path: Path) -> None:
    command = _run(installed.parent / "diagnose", "--help", cwd=tmp_path)
    module = _run(installed, "-m", "diagnose", "--help", cwd=tmp_path)

    assert "report" in command
    assert "report" in module


def test_installed_version_is_the_one_in_setup_cfg(repo: Path, installed: Path, tmp_path: Path) -> None:
    config = configparser.ConfigParser()
    config.read(repo / "setup.cfg")

    shown = _run(installed.parent / "diagnose", "--version", cwd=tmp_path)

    assert config["metadata"]["version"] in shown.split()


def test_distribution_named_kernels_wins_from_the_repository_root(repo: Path, tmp_path: Path) -> None:
    """transformers imports Hugging Face's package `kernels` where it is installed; ours must not stand before it."""
    python, site = _environment(tmp_path / "stub")
    (site / "kernels").mkdir()
    (site / "kernels" / "__init__.py").write_text("def get_kernel(): return 'theirs'\n")

    # With `-c` the working directory comes first on sys.path: the worst case.
    assert _run(python, "-c", "import kernels; print(kernels.get_kernel())", cwd=repo) == "theirs"


def test_link_to_kernels_is_relative_and_leads_to_the_folder_at_the_root(repo: Path) -> None:
    link = repo / "diagnose" / "kernels"

    assert link.readlink() == Path("../kernels")
    assert link.samefile(repo / "kernels")


def test_every_dependency_of_the_tests_is_pinned(repo: Path) -> None:
    """A direct dependency without a version in constraints.txt makes tomorrow's environment another one."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    config = configparser.ConfigParser()
    config.read(repo / "setup.cfg")
    extras = config["options.extras_require"]
    wanted = [config["options"]["install_requires"], *(extras[name] for name in ("torch", "demo", "test", "lint"))]
    lines = [line for block in wanted for line in block.splitlines() if line and not line.startswith("#")]
    needed = {canonicalize_name(Requirement(line).name) for line in lines} - {"torch-diagnose"}

    pins = [Requirement(line) for line in (repo / "constraints.txt").read_text().splitlines() if line[:1].isalnum()]

    assert needed <= {canonicalize_name(pin.name) for pin in pins}
    assert all(str(pin.specifier).startswith("==") for pin in pins)
