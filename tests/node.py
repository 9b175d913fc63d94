"""The page's scripts under node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.report import page

FOLDER = Path(page.__file__).parent
# A script may use those before it; they know of a browser no more than its address.
LOAD = """
globalThis.location = { hash: "" };
const load = (name) => require(`${process.argv[1]}/${name}.js`);
globalThis.Basics = load("page_basics");
const asked = JSON.parse(require("fs").readFileSync(0));
"""


def under_node(script: str, asked: Any) -> Any:
    """What a script prints as JSON. `asked` is in it what is given here, `load` reads a file of the page.
    Without node the test is skipped."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "-e", LOAD + script, str(FOLDER)],
        input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
