"""Bad words on the command line: one line each, which names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.hostile.trial import Trial, attempt

LONG = "x" * 20_000
EXPERIMENT = "# @package _global_\n"
MINE = "name: mine\nbase: a\nmembers:\n  a: {path: zoo://tiny/llama}\n  b c: {path: zoo://tiny/float}\n"


def one(name: str, words: str, says: str, **more: object) -> Trial:
    """A trial whose words have no spaces in them."""
    return Trial(name, tuple(words.split()), says, **more)  # type: ignore[arg-type]


KEYS = [
    one("added key", "+foo=1", r"foo: unknown key; available: model, task, method, .*donor"),
    one("new key", "foo=1", r"foo: unknown key; available: "),
    one("forced key within a new section", "++foo.bar=1", r"foo: unknown key; "),
    one("misspelt key", "batchsize=3", r"batchsize: unknown key; .*do you mean batch_size\?"),
    one("added key of a method", "+method.nope=1", r"method\.nope: unknown key; available: groups, "),
    one("key of another method", "method.stages.1.size=3", r"method\.stages: unknown key"),
    one("key of another task", "task=boxes task.path=x", r"task\.path: unknown key; available: count"),
    one("key of another backend", "backend.host=x", r"backend\.host: unknown key"),
    one("key of a member", "model.members.llama.nope=1", r"model\.members\.llama\.nope: unknown key; available: path"),
    one("key of an architecture", "model.architecture.nope=3", r"model\.architecture\.nope: unknown key"),
    one("key of Hydra", "hydra.nope=1", r"hydra\.nope: there is no such key"),
    one("deleted key", "~nope", r"nope: there is no such key"),
    one("needed key deleted", "~seed", r"seed: has no value"),
    one("deleted with another value", "~batch_size=3", r"batch_size: has another value"),
    one("deleted section", "~method", r"method: has no value; available: .*cmap"),
    one("package of no group", "donor@x=1", r"donor@x: there is no such group"),
    one("group at another place", "+model@y=tiny", r"y: unknown key"),
    one("group twice", "+model=sparse", r"model: model appears more than once"),
]
NOTHING = [
    one("donor=null", "donor=null", r"donor: method 'cmap' needs one, .*available: llama, vicuna, goat, float"),
    *(
        one(f"{group}=null", f"{group}=null", rf"{group}: 'null' is no {group}; available: ")
        for group in ("method", "model", "task", "backend", "tracking")
    ),
    *(
        one(f"{key}=null", f"{key}=null", rf"{key}: has no value")
        for key in ("seed", "batch_size", "padding", "output_dir")
    ),
    *(one(f"{key}=", f"{key}=", rf"{key}: is empty; ") for key in ("donor", "circuit", "output_dir", "store")),
    one("seed=", "seed=", r"seed: '' is not a whole number"),
    one("method=", "method=", r"method: "),
    Trial("a store of spaces", ("store='  '",), r"store: is empty; store=null keeps nothing"),
    one("model.name=", "model.name=", r"model\.name: '' is no name"),
    one("a path that is empty", "model.members.llama.path=", r"model\.members\.llama\.path: is empty"),
    one("member without path", "model.members.new.adapter=x", r"model\.members\.new\.path: has no value"),
    one("setting null", "method.form=null", r"method\.form: has no value"),
    one("null in a list", "method.groups=[null]", r"method\.groups\.0: has no value"),
    one("run without folder", "hydra.run.dir=", r"hydra\.run\.dir: '' is not a folder"),
]
TYPES = [
    one("fraction", "seed=1.5", r"seed: 1\.5 is not a whole number"),
    one("truth", "seed=true", r"seed: True is not a whole number"),
    one("nan", "seed=nan", r"seed: nan is not a whole number"),
    one("infinite", "batch_size=inf", r"batch_size: inf is not a whole number"),
    one("list", "seed=[1]", r"seed: \[1\] is not a whole number"),
    one("section", "seed={a:1}", r"seed: "),
    one("scientific", "batch_size=1e3", r"batch_size: 1000\.0 is not a whole number"),
    one("text", "batch_size=few", r"batch_size: 'few' is not a whole number"),
    one("donors at once", "donor=[float]", r"donor: \['float'\] is not text"),
    one("old way to name a donor", "donor.name=float", r"donor: \{'name': 'float'\} is not text"),
    one("truth for a name", "donor=true", r"donor: True is not text; quote it"),
    one("list for a circuit", "circuit=[]", r"circuit: \[\] is not text"),
    one("text for a list", "method.groups=value_fetcher", r"method\.groups: 'value_fetcher' is not a list"),
    one("list in a list", "method.groups=[[value_fetcher]]", r"method\.groups\.0: \['value_fetcher'\] is not text"),
    one("section for a list", "method.groups={}", r"method\.groups: "),
    one(
        "number for a section", "model.members.llama=3", r"model\.members\.llama: 3 is not a section; its keys are path"
    ),
    one("number for members", "model.members=3", r"model\.members: 3 is not a section"),
    one("number for an architecture", "model.architecture=3", r"model\.architecture: 3 is not a section"),
    one(
        "number in a list of sections",
        "method=path_patching method.stages=[3]",
        r"method\.stages\.0: 3 is not a section",
    ),
    one(
        "number for a section in a section",
        "method=path_patching method.choose=3",
        r"method\.choose: 3 is not a section",
    ),
    one("text for truth", "method=attention_knockout method.control=perhaps", r"method\.control: 'perhaps' is neither"),
    one("text in a list of numbers", "method=dcm method.sparsity=[0.1,x]", r"method\.sparsity\.1: 'x' is not a number"),
    one(
        "text in a list of counts", "method=evaluate method.boxes=[2,x]", r"method\.boxes\.1: 'x' is not a whole number"
    ),
]
WITHIN_LISTS = [
    one(
        "number of a stage",
        "method=path_patching method.stages.1.size=x",
        r"method\.stages\.1\.size: 'x' is not a whole",
    ),
    one(
        "limit of a stage",
        "method=path_patching method.stages.1.size=-1",
        r"method\.stages\.1\.size: -1 is not 1 or more",
    ),
    one(
        "stage that is not there",
        "method=path_patching method.stages.9.size=1",
        r"method\.stages\.9: task .* no such entry; available: 0, 1, 2, 3",
    ),
    one(
        "stage by name",
        "method=path_patching method.stages.x.size=1",
        r"method\.stages\.x: task .* no such entry; available: 0, 1, 2, 3",
    ),
    one(
        "key of a stage",
        "method=path_patching method.stages.1.sizee=1",
        r"method\.stages\.1\.sizee: unknown key; .*mean size\?",
    ),
    one("stage without role", "method=path_patching method.stages=[{name:a}]", r"method\.stages"),
    Trial(
        "key of an edge",
        ("method=attention_knockout", "method.edges=[{source: last, target: query_label, from: 3}]"),
        r"method\.edges\.0\.from: unknown key; available: source, target",
    ),
    Trial(
        "second stage without role",
        ("method=path_patching", "method.stages=[{name: a, role: last}, {name: b}]"),
        r"method\.stages\.1\.role: has no value",
    ),
]
NUMBERS = [
    one("huge seed", "seed=99999999999999999999", r"seed: 99999999999999999999 is not 0 or more and below"),
    one("seed of 5000 digits", f"seed={'9' * 5000}", r"seed: "),
    one("seed of 400 digits", f"seed={'9' * 400}", r"seed: 9+\.\.\. \(400 characters\) is not 0 or more"),
    one("huge batch", "batch_size=1000000000", r"batch_size: 1000000000 is not 1 or more and 65536 or less"),
    one("negative batch", "batch_size=-5", r"batch_size: -5 is not"),
    one(
        "absurd circuits",
        "method=faithfulness method.random_circuits=10000000000",
        r"method\.random_circuits: 10000000000 is not",
    ),
    one("absurd sets", "method=completeness method.random_sets=10000000000", r"method\.random_sets: "),
    one("absurd steps", "method=dcm method.steps=1000000000000", r"method\.steps: "),
    one("absurd draws", "method=dcm method.draws=10000000", r"method\.draws: "),
    one("absurd repeats", "method=activation_patching method.repeats=100000000", r"method\.repeats: "),
    one("absurd backgrounds", "method=faithfulness method.mean_count=10000000000", r"method\.mean_count: "),
    one("no memory at all", "method=dcm memory=0", r"memory: "),
    one("absurd patience", "backend=ndif backend.timeout_s=1e300", r"backend\.timeout_s: "),
    one("nan in a list", "method=dcm method.sparsity=[nan]", r"method\.sparsity\.0: nan is not a finite number"),
    one("infinite rate", "method=dcm method.learning_rate=inf", r"method\.learning_rate: inf is not a finite number"),
    one("no time for W&B", "tracking.timeout_s=0", r"tracking\.timeout_s: 0 is not above 0"),
]
GRAMMAR = [
    one("no value at all", "nonsense", r"command line: 'nonsense' is not KEY=VALUE"),
    one("no key", "=3", r"command line: '=3' is not KEY=VALUE"),
    one("only equals", "===", r"command line: '===' is not KEY=VALUE"),
    Trial("empty word", ("",), r"command line: '' is not KEY=VALUE"),
    one("two equals", "seed=3=4", r"seed: cannot be read"),
    one("open bracket", "method.groups=[a", r"method\.groups: cannot be read \(.*\); quote values"),
    one("closed bracket", "method.groups=]", r"method\.groups: cannot be read"),
    one("open brace", "method.groups={", r"method\.groups: cannot be read"),
    one("open parenthesis", "method.groups=(", r"method\.groups: cannot be read"),
    one("open double quote", 'method.form="a', r"method\.form: cannot be read"),
    one("open single quote", "method.form='a", r"method\.form: cannot be read"),
    one("key in Cyrillic", "донор=1", r"донор: cannot be read"),
    one("value in Cyrillic", "donor=флоат", r"donor: cannot be read .*quote"),
    one("quoted value in Cyrillic", "donor='флоат'", r"donor: family 'golden' has no member 'флоат'"),
    Trial("colours in a value", ("donor='fl\x1b[31moat'",), r"donor: family 'golden' has no member 'fl.*oat'"),
    Trial("line break in a value", ("donor='fl\noat'",), r"donor: family 'golden' has no member 'fl\\noat'"),
    Trial("text turned around", ("donor='fl\u202eoat'",), r"donor: family 'golden' has no member 'fl\\u202eoat'"),
    Trial("line break in a key", ("do\nnor=3",), r"do\\nnor: cannot be read"),
    one("very long value", f"donor={LONG}", r"donor: .{100,2000}available: llama, vicuna, goat, float$"),
    one("very long key", f"{LONG}=1", r"command line: a key of 20000 characters"),
    one("two values", "donor=float,llama", r"donor: several values; add --multirun"),
    one("a range", "seed=range(1,3)", r"seed: several values; add --multirun"),
    one("two methods", "method=cmap,evaluate", r"method: several values; add --multirun"),
    one("unknown flag", "--nope", r"command line: unrecognized arguments: --nope; see --help"),
    one("pickled run", "--experimental-rerun x.pickle", r"--experimental-rerun: is not taken here"),
    one("other folder of Hydra's", "--config-path x", r"--config-path: is not taken here; available: --config-dir"),
    one("no such folder", "--config-dir nope", r"--config-dir: no folder 'nope'"),
    one("no such configuration", "--config-name nope", r"--config-name: there is no configuration 'nope'"),
    one("two things to show", "--cfg job --info", r"configuration: .*Only one of"),
    one("something that cannot be shown", "--cfg nope", r"command line: argument --cfg"),
]
POINTERS = [
    one("to nothing", "seed=${nope}", r"seed: Interpolation key 'nope' not found"),
    one(
        "to nothing in a section", "method.form=${task.nope}", r"method\.form: Interpolation key 'task\.nope' not found"
    ),
    one("to itself", "seed=${seed}", r"seed: Recursive interpolation"),
    one("in a ring", "seed=${batch_size} batch_size=${seed}", r"(seed|batch_size): Recursive interpolation"),
    one("to no variable", "output_dir=${oc.env:ENTITRACK_NOPE}", r"output_dir: .*ENTITRACK_NOPE"),
    one("of no kind", "seed=${nope:3}", r"seed: Unsupported interpolation type nope"),
    one("left open", "seed='${'", r"seed: "),
    one("to a section", "seed=${task}", r"seed: .* is not a whole number"),
]
NAMES = [
    one("unknown method", "method=nope", r"method: there is no method 'nope'; available: .*cmap"),
    one("unknown model", "model=nope", r"model: there is no model 'nope'; available: .*llama-7b, .*sparse, tiny"),
    one("unknown experiment", "experiment=nope", r"experiment: there is no experiment 'nope'; available: "),
    one("unknown group of heads", "method.groups=[nope]", r"method\.groups\.0: no group 'nope' in the circuit"),
    one(
        "unknown donor where none is needed",
        "method=evaluate donor=nope",
        r"donor: family 'golden' has no member 'nope'",
    ),
    one("a number for a donor", "donor=7", r"donor: family 'golden' has no member '7'"),
    one(
        "usual donor of a family", "model.donor=nope donor=float", r"model\.donor: family 'golden' has no member 'nope'"
    ),
    one("name that is not at home", "method.name=nope", r"method\.name: unknown method 'nope'"),
    one("unknown launcher", "hydra/launcher=joblib", r"hydra/launcher: there is no hydra/launcher 'joblib'"),
    one(
        "launcher by class",
        "hydra.launcher._target_=os.system",
        r"hydra\.launcher\._target_: 'os\.system' is not taken",
    ),
    one("another working folder", "hydra.job.chdir=true", r"hydra\.job\.chdir: True is not taken here"),
    one("sweep by configuration", "hydra.mode=MULTIRUN", r"hydra\.mode: .* is not taken here"),
    one(
        "folder to search in",
        "hydra.searchpath=[file:///nope/at/all]",
        r"hydra\.searchpath: .*/nope/at/all is not available",
    ),
    one("no list to search in", "hydra.searchpath=3", r"hydra\.searchpath: .*must be a list"),
]
FILES = [
    one(
        "own experiment with a wrong key",
        "--config-dir my experiment=e",
        r"method\.nope: unknown key",
        files={"my/experiment/e.yaml": EXPERIMENT + "method: {nope: 3}\n"},
    ),
    one(
        "own experiment with a wrong value",
        "--config-dir my experiment=e",
        r"seed: 'x' is not a whole",
        files={"my/experiment/e.yaml": EXPERIMENT + "seed: x\n"},
    ),
    one(
        "own experiment that is no YAML",
        "--config-dir my experiment=e",
        r".*e\.yaml:3: cannot be read",
        files={"my/experiment/e.yaml": EXPERIMENT + "seed: [1\nb: }\n"},
    ),
    one(
        "own experiment that is not text",
        "--config-dir my experiment=e",
        r"experiment: cannot be composed \(UnicodeDecodeError: ",
        files={"my/experiment/e.yaml": b"\xff\xfe\x00\x01"},
    ),
    one(
        "own experiment that is a list",
        "--config-dir my experiment=e",
        r"experiment: its keys are in a section of their own; begin its file with '# @package _global_'",
        files={"my/experiment/e.yaml": "- 1\n- 2\n"},
    ),
    one(
        "own experiment with the old donors",
        "--config-dir my experiment=e",
        r"donor: there is no such",
        files={"my/experiment/e.yaml": EXPERIMENT + "defaults:\n  - override /donor: float\n"},
    ),
    one(
        "own family without a usual donor",
        "--config-dir my model=mine",
        r"donor: method 'cmap' needs one, and family 'mine' names none; available: a, b c",
        files={"my/model/mine.yaml": MINE},
    ),
    one(
        "own family's donor misspelt",
        "--config-dir my model=mine donor=bc",
        r"donor: family 'mine' has no member 'bc'; available: a, b c",
        files={"my/model/mine.yaml": MINE},
    ),
    one(
        "own family without a base",
        "--config-dir my model=mine",
        r"model\.base: has no value",
        files={"my/model/mine.yaml": "name: mine\nmembers: {a: {path: x}}\n"},
    ),
    one(
        "own family without members",
        "--config-dir my model=mine",
        r"model\.base: family 'mine' has no member 'a'",
        files={"my/model/mine.yaml": "name: mine\nbase: a\n"},
    ),
    one("output below a file", "output_dir={here}/f/x", r"cannot use '.*/f' \(Not a directory\)", files={"f": ""}),
    one("store that is a file", "store={here}/f", r"cannot use '.*/f' \(Not a directory\)", files={"f": ""}),
    one("output that is no folder", "output_dir=/dev/null", r"cannot use '/dev/null' \(Not a directory\)"),
    one("name that is too long", f"output_dir={'y' * 300}", r"cannot use '.*y+.*' \(File name too long\)"),
    one(
        "folder that holds a result",
        "hydra.run.dir={here}/old",
        r".*/old: already holds a result\.json; choose another",
        files={"old/result.json": "{}"},
    ),
]

TRIALS = [*KEYS, *NOTHING, *TYPES, *WITHIN_LISTS, *NUMBERS, *GRAMMAR, *POINTERS, *NAMES, *FILES]
OWN_FAMILY = {
    "own family without a usual donor",
    "own family's donor misspelt",
    "own family without a base",
    "own family without members",
}


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_is_wrong_is_one_line(
    trial: Trial,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = trial.name in OWN_FAMILY or "model=nope" in trial.arguments or "model=null" in trial.arguments
    overrides = [word for word in golden_overrides if not (own and word.startswith("model."))]
    attempt(trial, launch, overrides, tmp_path, capsys, monkeypatch)


def test_names_of_trials_are_told_apart() -> None:
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
