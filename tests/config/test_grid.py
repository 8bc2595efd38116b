"""Configs expand to trials, and a trial's command line reproduces it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bias_transfer.config import grid
from bias_transfer.config.yaml import parse_yaml
from bias_transfer.errors import UserError
from bias_transfer.models import gguf, hub
from bias_transfer.spec import OWNERS, AnalysisPlan, Margins, Trial, parse_trial
from bias_transfer.sweep.plan import resolve_all

CONFIGS = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))


def expand(text: str) -> list[Trial]:
    return grid.expand(parse_yaml(text))


def fields(trials: list[Trial], *names: str) -> list[tuple[object, ...]]:
    return [tuple(getattr(trial, name) for name in names) for trial in trials]


def test_a_list_is_an_axis_and_blocks_are_concatenated():
    trials = expand("""
        defaults: {seed: [0, 1], epochs: 2}
        grid:
          - upstream: [none, perturb]
          - {downstream: scrub, seed: 5, epochs: 1}
    """)
    assert fields(trials, "upstream", "downstream", "seed", "epochs") == [
        ("none", "none", 0, 2.0), ("perturb", "none", 0, 2.0), ("none", "none", 1, 2.0), ("perturb", "none", 1, 2.0),
        ("none", "scrub", 5, 1.0),
    ]  # fmt: skip


def test_a_config_without_a_grid_is_one_trial():
    assert expand("defaults: {seed: 7}") == [parse_trial({"seed": 7})]
    assert expand("{}") == [Trial()]


def test_an_arm_has_axes_and_options_of_its_own():
    trials = expand("""
        grid:
          - upstream: [none, {name: perturb, dose: [0.5, 1], draw: [1, 2]}]
            downstream: [none, {name: scrub, dose: 1, control: true}]
    """)
    assert len(trials) == (1 + 2 * 2) * 2
    assert fields(trials[2:4], "upstream", "upstream_dose", "options") == [
        ("perturb", 0.5, {"upstream.draw": 1}),
        ("perturb", 0.5, {"downstream.control": True, "upstream.draw": 1}),
    ]
    assert {(trial.upstream_dose, trial.options.get("upstream.draw")) for trial in trials} == {
        (None, None), (0.5, 1), (0.5, 2), (1.0, 1), (1.0, 2),
    }  # fmt: skip


def test_data_models_and_metrics_have_options():
    (trial,) = expand(
        "defaults: {data: {name: synthetic, size: 300}, model: {name: tiny, steps: 5}, metric: {top_k: 9}}"
    )
    assert trial.options == {"data.size": 300, "model.steps": 5, "metric.top_k": 9}
    assert expand("defaults: {data.size: [300, 400]}") == expand(
        "defaults: {data: {name: synthetic, size: [300, 400]}}"
    )


def test_yaml_is_1_2():
    assert parse_yaml("[no, yes, off, 5e-5, 0o17, 010, true, 12:30]") == [
        "no", "yes", "off", 5e-5, 15, 10, True, "12:30",
    ]  # fmt: skip
    (trial,) = expand("defaults: {learning_rate: 5e-5, data: no}")
    assert (trial.learning_rate, trial.data) == (5e-5, "no")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: []", "the grid is empty"),
        ("grid: [{seed: []}]", "the grid is empty: the axis 'seed'"),
        ("grid: [{upstream: {name: perturb, dose: []}}]", "the grid is empty"),
        ("grid: [{seed: [0, 1, 0]}]", "axis 'seed' has the value .* more than once"),
        ("grid: [{epochs: [3, 3.0]}]", "axis 'epochs' has the value .* more than once"),
        ("grid: [{upstream: [none, none]}]", "axis 'upstream' has the value"),
        ("grid: [{upstream: {name: perturb, dose: [1, 1]}}]", "axis 'upstream_dose' has a value more than once"),
        ("grid: [{seed: 0}, {seed: [1, 0]}]", "two blocks give the same trial: none . none s0 wiki tiny"),
        ("grid: [{sed: 0}]", "unknown key 'sed'. Did you mean 'seed'"),
        ("defaults: {sed: 0}", "unknown key 'sed'. Did you mean 'seed'"),
        ("default: {seed: 0}", "unknown key 'default'. Did you mean 'defaults'"),
        ("grid: [{upstream: {name: perturb, dosis: 1}}, {upstream: {dose: 1}}]", "'upstream' takes no mapping here"),
        ("grid: [{seed: {name: 1}}]", "'seed' takes no mapping here"),
        ("grid: [{options: {data.size: 3}}]", "options are written next to their owner"),
        ("grid: [{upstream: {name: perturb, dose: 0}}]", "a dose of 0 changes nothing; write upstream: none"),
        ("grid: [3]", "a block of the grid is a mapping of axes, not 3"),
        ("grid: {seed: 0}", "grid a list of mappings"),
        ("defaults: [1]", "defaults is a mapping"),
        ("- 1", "a config is a mapping with the keys defaults, grid"),
        ("", "a config is a mapping"),
        ("grid: [", "invalid YAML"),
        ("{seed: 1, seed: 2}", "invalid YAML: .*duplicate key"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        expand(text)


KEYS = st.sampled_from(
    ["defaults", "grid", "seed", "upstream", "name", "dose", "data", "options", "data.size", "x"]
) | (st.integers() | st.none() | st.booleans())
CONTENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.floats()
    | st.dates()
    | st.sampled_from(["none", "perturb", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["seed", "upstream", "data", "data.size", "metric"]) | KEYS, CONTENT, max_size=3)
)
def test_any_config_gives_trials_or_a_user_error(axes):
    try:
        trials = grid.expand({"grid": [axes]})
    except UserError:
        return
    assert trials


def test_a_file_is_named_in_its_errors(tmp_path):
    config = tmp_path / "one.yaml"
    config.write_text("grid: [{sed: 0}]")
    with pytest.raises(UserError, match=r"one.yaml: unknown key 'sed'"):
        grid.load(config)
    config.write_bytes(b"grid: [{data: \xff}]")
    with pytest.raises(UserError, match=r"one.yaml: not UTF-8 at byte 14"):
        grid.load(config)
    with pytest.raises(UserError, match=r"unknown config '.*ona.yaml'. Did you mean '.*one.yaml'"):
        grid.load(tmp_path / "ona.yaml")
    with pytest.raises(UserError, match="unknown config"):
        grid.load(tmp_path / "nowhere" / "one.yaml")


def test_names_leave_out_options_that_differ_because_the_data_do():
    trials = expand("""
        grid:
          - {data: {name: synthetic, size: [500, 600]}}
          - {data: comments}
    """)
    assert grid.names(trials) == [
        "none + none s0 wiki tiny data=synthetic data.size=500",
        "none + none s0 wiki tiny data=synthetic data.size=600",
        "none + none s0 wiki tiny data=comments",
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_projects_configs_can_be_read(config):
    assert len(grid.load(config).trials) > 1


def test_wiki_small_has_eighteen_trials():
    (small,) = (path for path in CONFIGS if path.stem == "wiki_small")
    trials = grid.load(small).trials
    assert len(trials) == len({trial.model_dump_json() for trial in trials}) == 18


def test_assignments():
    words = ["seed=3", "learning_rate=5e-5", "data=no=yes", "downstream.control=true", "model="]
    assert grid.assignments(words) == {
        "seed": 3, "learning_rate": 5e-5, "data": "no=yes", "downstream.control": True, "model": "",
    }  # fmt: skip
    assert grid.assignments(["data=1.50", "model=010"]) == {"data": "1.50", "model": "010"}  # names are never numbers
    with pytest.raises(UserError, match="'seed' is not of the form KEY=VALUE"):
        grid.assignments(["seed"])
    with pytest.raises(UserError, match="seed is given twice"):
        grid.assignments(["seed=1", "seed=2"])
    with pytest.raises(UserError, match="invalid YAML"):
        grid.assignments(["seed=[1"])


def test_an_override_changes_every_trial():
    trials = expand("grid: [{seed: [0, 1], upstream: [none, perturb]}]")
    changed = grid.override(trials, ["epochs=1", "data=folder"])
    assert fields(changed, "seed", "upstream") == fields(trials, "seed", "upstream")
    assert {(trial.epochs, trial.data) for trial in changed} == {(1.0, "folder")}


def test_a_list_in_an_override_is_an_axis():
    trials = expand("grid: [{seed: [0, 1], upstream: [none, perturb]}]")
    changed = grid.override(trials, ["seed=[0, 5]", "epochs=1"])
    wanted = [(0, "none"), (0, "perturb"), (5, "none"), (5, "perturb")]
    assert fields(changed, "seed", "upstream") == wanted
    assert changed[:2] == grid.override(trials[:2], ["epochs=1"]), "the trials of both are the same"
    with pytest.raises(UserError, match="more than once"):
        grid.override(trials, ["seed=[5, 5]"])


def test_trials_that_an_override_makes_equal_are_merged():
    trials = expand("grid: [{seed: [0, 1], upstream: [none, perturb]}]")
    assert fields(grid.override(trials, ["upstream=none"]), "seed", "upstream") == [(0, "none"), (1, "none")]


def test_a_new_name_drops_the_old_ones_options():
    (trial,) = expand("""
        defaults:
          data: {name: synthetic, size: 300}
          model: {name: tiny, steps: 5}
          upstream: {name: perturb, dose: 0.5, draw: 3}
          downstream: {name: scrub, dose: 0.5, control: true}
    """)
    (same,) = grid.override([trial], ["data=synthetic"])
    assert same == trial
    (moved,) = grid.override([trial], ["data=folder", "upstream=none"])
    assert moved.options == {"model.steps": 5, "downstream.control": True}
    assert (moved.upstream, moved.upstream_dose, moved.downstream_dose) == ("none", None, 0.5)
    (changed,) = grid.override([trial], ["data=folder", "data.split_seed=1", "upstream_dose=1"])
    assert (changed.options["data.split_seed"], changed.upstream_dose, "data.size" in changed.options) == (
        1,
        1.0,
        False,
    )


def test_an_unknown_override_is_refused():
    with pytest.raises(UserError, match="unknown key 'sed'"):
        grid.override([Trial()], ["sed=1"])


def test_only_selects_the_trials_that_match():
    trials = expand("""
        defaults: {seed: [0, 1, 2], data.size: 300}
        grid: [{upstream: [none, {name: perturb, dose: [0.5, 1]}]}]
    """)
    assert fields(grid.only(trials, ["upstream=perturb", "seed=0", "seed=2", "upstream_dose=1"]), "seed") == [
        (0,),
        (2,),
    ]
    assert grid.only(trials, ["data.size=300"]) == trials
    with pytest.raises(UserError, match="no trial matches --only seed=7; without it there are 9"):
        grid.only(trials, ["seed=7"])
    with pytest.raises(UserError, match="unknown key 'sed'. Did you mean 'seed'"):
        grid.only(trials, ["sed=0"])
    with pytest.raises(UserError, match="unknown key 'data.sise'. Did you mean 'data.size'"):
        grid.only(trials, ["data.sise=300"])


def test_only_by_id():
    trials = [parse_trial({"seed": seed, "data_digest": "d", "model_digest": "m"}) for seed in range(3)]
    assert grid.only(trials, [f"id={trials[1].id}"]) == [trials[1]]


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, exclude_min=True)


WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs", "S"]), min_size=1, max_size=12)
OPTIONS = st.dictionaries(
    st.builds("{}.{}".format, st.sampled_from(OWNERS), st.sampled_from(["size", "steps", "k"])),
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["vader", "cls"]),
    max_size=3,
)
TRIALS = st.fixed_dictionaries(
    {"options": OPTIONS},
    optional={
        "data": WORDS, "model": WORDS, "seed": st.integers(0, 2**40), "epochs": floats(0, 1e6),
        "batch_size": st.integers(1, 4096), "micro_batch_size": st.none() | st.integers(1, 512),
        "learning_rate": st.none() | floats(0, 1), "warmup": floats(0, 0.99), "weight_decay": floats(0, 1),
        "clip": floats(0, 100), "max_tokens": st.integers(8, 8192), "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
        "threads": st.integers(1, 64), "upstream": st.just("perturb"), "downstream": st.just("scrub"),
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TRIALS, floats(0, 1e9) | st.none())
def test_the_command_line_of_a_trial_reproduces_it(values, dose):
    """A sweep prints it for a failed trial, so it must reproduce the trial exactly."""
    doses = {f"{stage}_dose": dose for stage in ("upstream", "downstream") if stage in values}
    trial = parse_trial({**values, **doses})
    assert parse_trial(grid.assignments(grid.command_line(trial))) == trial


def test_the_command_line_has_task_data_model_and_seed_and_no_other_defaults():
    trial = parse_trial({"data_digest": "d", "model_digest": "m", "upstream": "perturb", "upstream_dose": 0.5})
    assert grid.command_line(trial) == [
        "task=wiki", "data=synthetic", "model=tiny", "upstream=perturb", "upstream_dose=0.5", "seed=0",
    ]  # fmt: skip


def test_tunings_are_an_axis_with_options():
    trials = expand("grid: [{tuning: [full, frozen, {name: lora, rank: [4, 8]}], seed: [0, 1]}]")
    assert fields(trials[::2], "tuning", "options") == [
        (None, {}), ("frozen", {}), ("lora", {"tuning.rank": 4}), ("lora", {"tuning.rank": 8}),
    ]  # fmt: skip
    assert [len(grid.only(trials, [f"tuning={name}"])) for name in ("full", "frozen", "lora")] == [2, 2, 4]
    assert grid.override(trials, ["tuning=frozen"]) == [trials[2], trials[3]], "lora's options are dropped"
    assert grid.override(trials, ["tuning=full"]) == trials[:2]
    for trial in trials:
        assert parse_trial(grid.assignments(grid.command_line(trial))) == trial


@pytest.mark.parametrize("models", ["{name: tiny, seed: [0, 1, 2]}", "[seeds/0/final, seeds/1/final, seeds/2/final/]"])
def test_pretraining_seeds_are_an_axis_and_have_names(models):
    trials = expand(f"defaults: {{model: {models}}}")
    assert len(trials) == len({trial.name for trial in trials}) == 3
    assert trials[1].name in ("none + none s0 wiki tiny(seed=1)", "none + none s0 wiki 1/final")


def test_plugins_hold_for_all_trials_and_are_no_axis():
    trials = expand("{plugins: [my_lab.b, x/my_lab.a], defaults: {seed: [0, 1]}}")
    assert [trial.plugins for trial in trials] == [("x/my_lab.a", "my_lab.b")] * 2
    assert grid.assignments(grid.command_line(trials[0]))["plugins"] == ["x/my_lab.a", "my_lab.b"]
    assert parse_trial(grid.assignments(grid.command_line(trials[1]))) == trials[1]
    assert grid.override(trials, ["plugins=[other]"])[0].plugins == ("other",)
    assert grid.override(trials, ["plugins=[]"]) == expand("{defaults: {seed: [0, 1]}}")
    for inside in ("defaults: {plugins: [a]}", "grid: [{plugins: [a]}]"):
        with pytest.raises(UserError, match="write plugins: .MODULE, .*. next to defaults and grid"):
            expand(inside)


def test_a_task_may_be_a_file_with_any_name():
    assert grid.assignments(["task=my: own #1.yaml"]) == {"task": "my: own #1.yaml"}


def test_names_give_the_fields_that_trials_of_the_same_name_differ_by():
    trials = expand("""
        defaults: {seed: [0, 1]}
        grid:
          - {data: {name: synthetic, world: [3, 4]}, upstream: perturb}
          - {data: {name: synthetic, world: 3, size: 500}}
    """)
    assert grid.names(trials) == [
        "perturb + none s0 wiki tiny data.world=3", "perturb + none s0 wiki tiny data.world=4",
        "perturb + none s1 wiki tiny data.world=3", "perturb + none s1 wiki tiny data.world=4",
        "none + none s0 wiki tiny", "none + none s1 wiki tiny",
    ]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_trial_of_every_config_can_be_built_and_has_its_own_id_and_name(
    config: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the real resolve(), which checks options, doses and arms; the hub is assumed to have everything, smollm2 too."""
    monkeypatch.setattr(hub, "revision", lambda name, kind: f"{kind} {name}")
    monkeypatch.delitem(gguf.PACKAGED, "smollm2")
    read = grid.load(config)
    trials = [resolved.trial for resolved in resolve_all(read.trials)]
    assert len(trials) == len({trial.id for trial in trials}) == len(set(grid.names(trials))) == len(read.trials)
    for trial in trials:
        again = grid.assignments(grid.command_line(trial))
        assert resolve_all([parse_trial(again)])[0].trial.id == trial.id


def test_the_analysis_plan_is_read_and_checked(tmp_path: Path):
    config = tmp_path / "one.yaml"
    config.write_text(
        "{grid: [{seed: [0, 1]}], analysis: {primary: {wiki: fpr}, margins: {wiki: {fpr: {slope_sd: 0.2}}}}}"
    )
    plan = grid.load(config).analysis
    assert plan == AnalysisPlan(primary={"wiki": "fpr"}, margins={"wiki": {"fpr": Margins(slope_sd=0.2)}})
    assert plan.margins_of("wiki", "fpr") == Margins(slope_sd=0.2, arm_sd=None)
    assert plan.margins_of("bios", "fpr") == plan.margins_of("wiki", "tpr_gap") == Margins()
    for text, message in {
        "{margin: 0.1}": r"analysis.margin'\. Did you mean 'analysis.margins'",
        "{margin_slope: 0.1}": r"margin_slope: .* Write margins: {wiki: {fpr: {slope_sd: 0.2, arm_sd: 0.2}}}",
        "{margin_arms: 0.1, margin_slope: 0.1}": r"margin_slope and margin_arms: .* Write margins: {wiki: {fpr: ",
        "{margins: {wiki: {fpr: {slope_s: 0.1}}}}": r"analysis.margins.wiki.fpr.slope_s'\. Did you mean '.*fpr.slope_sd'",
        "{margins: {wikki: {fpr: {slope_sd: 0.1}}}}": r"in analysis.margins 'wikki'\. Did you mean 'wiki'",
        "{primary: {wikki: fpr}}": "Did you mean 'wiki'",
        "{margins: {wiki: {fpr: {arm_sd: -1}}}}": "analysis.margins.wiki.fpr.arm_sd: .*greater than 0",
        "3": "analysis is a mapping",
    }.items():
        config.write_text(f"{{grid: [{{seed: [0, 1]}}], analysis: {text}}}")
        with pytest.raises(UserError, match=message):
            grid.load(config)


MODELS = "{grid: [{model: [a/one, a/two, a/three]}], analysis: %s}"


def test_pre_training_seeds_and_twins_are_models_of_the_grid(tmp_path: Path):
    config = tmp_path / "one.yaml"
    config.write_text(MODELS % "{pretraining_seeds: {small: [a/one, a/two]}, twins: {pronoun twins: {a/three: a/one}}}")
    plan = grid.load(config).analysis
    assert plan.pretraining_seeds == {"small": ["a/one", "a/two"]}
    assert plan.twins == {"pronoun twins": {"a/three": "a/one"}}
    for text, message in {
        "{pretraining_seeds: {small: [a/one, a/too]}}": r"pretraining_seeds.small 'a/too'\. Did you mean 'a/two'",
        "{pretraining_seeds: {small: [a/one]}}": "small: it takes two models or more",
        "{pretraining_seeds: {small: [a/one, a/one]}}": "'a/one' occurs twice",
        "{pretraining_seeds: {a/b: [a/one, a/two]}}": "the name 'a/b' has characters other than",
        "{pretraining_seeds: {small: [a/one, a/two]}, twins: {own twins: {a/one: a/three}}}": "'a/one' occurs twice",
        "{twins: {own twins: {a/three: a/four}}}": "twins.own twins 'a/four'",
        "{twins: {swapped: {a/three: a/one}}}": "does not end in the word twins. Write 'swapped twins'",
        "{twins: {own twins: {a/three: a/one, a/one: a/two}}}": "'a/one' is treated and untreated",
    }.items():
        config.write_text(MODELS % text)
        with pytest.raises(UserError, match=message):
            grid.load(config)
    config.write_text(
        "{grid: [{model: [a/one, a/two], upstream: [none, permute]}], analysis: {twins: {own twins: {a/two: a/one}}}}"
    )
    with pytest.raises(UserError, match="'a/two' is a treated twin, .* block of its own with upstream: none"):
        grid.load(config)
