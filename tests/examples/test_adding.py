"""What adding a method, task, metric, component or architecture takes: the examples, in a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import entitrack
from entitrack.methods import method_names
from entitrack.runtime.promises import WrongResult, check_result
from tests.conftest import Launch
from tests.examples.logit_lens.trace import layer_answers

EXAMPLES = Path(__file__).parent
PACKAGE = Path(entitrack.__file__).parent
SMALL = ("tracking=disabled", "store=null", "model.device=cpu", "task.count=14")
OF_BASE = ("method.models=[llama]", "method.mean_count=14", "method.random_circuits=2")
RANDOM = ("model.donor=null", "model.members.llama.path=starcoder2")
RUNS: dict[str, tuple[str, ...]] = {
    "help": ("--help", "method=logit_lens"),
    "method": ("method=logit_lens", *SMALL),
    "shipped method": ("method=logit_lens", "backend=dry_run", "method.models=[llama]", *SMALL),
    "metric": ("method=faithfulness", "method.metric=log_probability", *OF_BASE, *SMALL),
    "component": ("method=cmap", "donor=float", "method.components=[mlp_in,mlp_out]", *SMALL),
    "task": ("method=logit_lens", "task=my_tasks:Fruit", *SMALL),
    "architecture": (
        "method=path_patching",
        "method.prompts=all",
        "method.force=true",
        "method.verify=4",
        *RANDOM,
        *SMALL,
    ),
}
SCRIPT = """
import json, sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from entitrack import load, run
told = {}
for name, words in json.load(sys.stdin).items():
    sys.argv = ["entitrack", *words, *([] if name == "help" else [f"output_dir=of {name}"])]
    with redirect_stdout(StringIO()) as said:
        try:
            code = run.main() or 0
        except SystemExit as stop:
            code = stop.code or 0
    told[name] = {"code": code, "said": said.getvalue()}
    if name != "help" and not code:
        result = load(next(Path(f"of {name}").rglob("result.json")).parent)
        told[name] |= {"tables": [str(table) for table in result.tables], "drawn": result.figure() is not None}
        told[name]["measured"] = list(result.measurements)
json.dump(told, open("told.json", "w"))
"""


def random_model(folder: Path) -> None:
    """A small decoder of an architecture that the package does not describe, which reads the family's words."""
    shutil.copytree(
        PACKAGE / "models" / "zoo" / "tiny" / "llama", folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    (folder / "generation_config.json").unlink()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = {"vocab_size": 369, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
    config = AutoConfig.for_model("starcoder2", **sizes, **words, num_key_value_heads=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each run in the copy came to."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, copy / "entitrack", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "conf", copy / "conf")
    shutil.copytree(EXAMPLES / "logit_lens", copy / "entitrack" / "methods" / "logit_lens")
    shutil.copy(EXAMPLES / "fruit.py", copy / "my_tasks.py")
    for name in ("metric", "component", "architecture"):
        subprocess.run(["git", "apply", "-C1", EXAMPLES / f"{name}.diff"], cwd=copy, check=True)
    random_model(copy / "starcoder2")
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    asked = json.dumps(RUNS)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=copy, env=environment, input=asked, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads((copy / "told.json").read_text())
    assert {name: run["code"] for name, run in found.items()} == dict.fromkeys(RUNS, 0), done.stderr
    return found


def test_a_method_is_a_folder(told: dict[str, dict[str, Any]]) -> None:
    assert "logit_lens" not in method_names()
    assert "From which layer on does the stream already say the answer?" in told["help"]["said"]
    assert told["method"]["drawn"]
    assert told["method"]["measured"] == ["correct", "prediction"]
    assert "before layer 3" in told["method"]["tables"][0]
    assert told["method"]["tables"] != told["task"]["tables"]


def test_a_methods_own_intervention_is_shipped_and_held_to_what_it_promises(told: dict[str, dict[str, Any]]) -> None:
    assert told["shipped method"]["measured"] == told["method"]["measured"]
    check_result(layer_answers, {"prediction": torch.zeros(4, 3, dtype=torch.long)})
    for wrong in (torch.zeros(4, 3), torch.zeros(3, dtype=torch.long)):
        with pytest.raises(WrongResult, match=r"the result of layer_answers .*, not Int\[layer batch\]"):
            check_result(layer_answers, {"prediction": wrong})
    with pytest.raises(WrongResult, match="'more' is not among what it returns"):
        check_result(layer_answers, {"prediction": torch.zeros(4, 3).long(), "more": torch.zeros(1)})


def test_a_metric_is_an_entry(told: dict[str, dict[str, Any]]) -> None:
    assert "log_probability" in told["metric"]["measured"]
    assert "F is log_probability" in told["metric"]["tables"][0]


def test_a_component_is_a_line_and_how_it_is_reached(told: dict[str, dict[str, Any]]) -> None:
    table = told["component"]["tables"][0]
    assert "what the MLPs of their layers read, or what the MLPs of their layers add at their roles" in table
    assert "full circuit mlp_in" in table


def test_an_architecture_is_an_entry(told: dict[str, dict[str, Any]]) -> None:
    """Heads drawn at random have the scores of the definition in every stage; a mismatch would have stopped the run."""
    assert any("(4 heads)" in table for table in told["architecture"]["tables"])


def test_an_architecture_may_be_described_on_the_command_line(launch: Launch, tmp_path: Path) -> None:
    random_model(tmp_path / "starcoder2")
    parts = ("layers=model.layers", "o_proj=self_attn.o_proj", f"projections={[f'self_attn.{c}_proj' for c in 'qkv']}")
    words = [f"model.architecture.{part}" for part in parts]
    assert launch("method=attention_knockout", *SMALL, *RANDOM) == 2
    assert launch("method=attention_knockout", *SMALL, *RANDOM, *words) == 0


def touched(example: str) -> int:
    """Files that an example adds or changes."""
    path = EXAMPLES / example
    if path.is_dir():
        return len(list(path.glob("*.py")))
    return len(re.findall(r"^\+\+\+ ", path.read_text(), re.MULTILINE)) if path.suffix == ".diff" else 1


def test_the_readme_says_how_many_files_it_takes() -> None:
    readme = (PACKAGE / "README.md").read_text()
    rows = dict(re.findall(r"^\| a[n]? ([a-z ]+?) \| .* \| (\d+) \|$", readme, re.MULTILINE))
    files = {"method": "logit_lens", "task with other roles": "fruit.py"}
    files |= {name: f"{name}.diff" for name in ("metric", "component", "architecture")}
    assert rows == {name: str(touched(example)) for name, example in files.items()}
