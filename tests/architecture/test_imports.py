"""Who may import whom is written down in pyproject.toml, and holds."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_go_down_and_each_foreign_library_has_one_owner():
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_new_module_fails_the_build_until_somebody_decides_where_it_stands():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    exhaustive = {
        container
        for contract in contracts
        if contract["type"] == "layers" and contract.get("exhaustive")
        for container in contract["containers"]
    }
    packages = {path.parent for name in ("mailer", "service", "worker") for path in ROOT.glob(f"{name}/**/__init__.py")}
    with_several_modules = {
        ".".join(package.relative_to(ROOT).parts) for package in packages if len(list(package.glob("*.py"))) > 2
    }
    assert exhaustive == with_several_modules
