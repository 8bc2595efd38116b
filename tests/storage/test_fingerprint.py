"""All that decides a value is in its key, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from bias_transfer import hashing
from bias_transfer.resolved import resolve
from bias_transfer.spec import Trial, parse_trial
from bias_transfer.storage import fingerprint
from bias_transfer.storage.fingerprint import model_key, upstream_key

FULL = {
    "task": "wiki", "data": "synthetic", "data.size": 300, "model": "tiny", "model.steps": 5, "upstream": "perturb",
    "upstream_dose": 0.5, "downstream": "scrub", "tuning": "lora", "metric.top_k": 5,
}  # fmt: skip
CHANGED = {
    "task": "bios", "data": "other", "model": "other", "upstream": "permute", "upstream_dose": 0.25, "seed": 1,
    "downstream": "rebalance", "downstream_dose": 0.5, "epochs": 1.0, "batch_size": 8, "micro_batch_size": 4,
    "learning_rate": 1e-5, "warmup": 0.2, "weight_decay": 0.1, "clip": 2.0, "max_tokens": 32, "precision": "bf16",
    "threads": 2, "tuning": None, "task_digest": "x", "data_digest": "x", "model_digest": "x",
    "plugins": ("other.arms",), "plugins_digest": "x",
}  # fmt: skip
DECISIVE = {
    "task", "task_digest", "data_digest", "model_digest", "upstream", "upstream_dose", "seed", "max_tokens", "precision",
    "threads", "plugins_digest",
}  # fmt: skip


def test_every_field_that_decides_changes_the_key_and_no_other_does():
    """A field that is added to Trial needs a place here."""
    given = resolve(parse_trial(FULL)).trial.model_copy(update={"plugins": ("lab.arms",), "plugins_digest": "p"})
    assert CHANGED.keys() | {"options"} == Trial.model_fields.keys()
    for name, value in CHANGED.items():
        same = upstream_key(given.model_copy(update={name: value})) == upstream_key(given)
        assert same == (name not in DECISIVE), name
    for name in given.options:
        other = given.model_copy(update={"options": {**given.options, name: "other"}})
        same = upstream_key(other) == upstream_key(given)
        assert same == name.startswith(("downstream.", "tuning.")), name
    options = {**given.options, "upstream.corpus": "here", "upstream.corpus_digest": "x"}
    placed = [given.model_copy(update={"options": {**options, **own}}) for own in ({}, {"upstream.corpus": "there"})]
    assert upstream_key(placed[0]) == upstream_key(placed[1]) != upstream_key(given)


def test_the_seed_decides_nothing_of_an_untreated_model():
    plain = [resolve(parse_trial({"seed": seed})).trial for seed in (0, 1)]
    treated = [resolve(parse_trial({"seed": seed, "upstream": "perturb"})).trial for seed in (0, 1)]
    assert upstream_key(plain[0]) == upstream_key(plain[1])
    assert upstream_key(treated[0]) != upstream_key(treated[1])


def forget() -> None:
    for cached in (fingerprint._code, fingerprint._cpu, fingerprint.packages):
        cached.cache_clear()


X86 = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: CPU\nflags\t\t: {}\n\n"
ARM = "processor\t: 0\nFeatures\t: sve bf16 asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd40\n"


def test_the_cpu_is_described_by_vendor_model_and_flags():
    flags = "fpu avx512f amx_bf16 avx512_bf16"
    assert fingerprint.cpu_of(X86.format("GenuineIntel", flags) * 2) == {
        "vendor": "GenuineIntel", "family": "6", "model": "143", "flags": "amx_bf16 avx512_bf16 avx512f fpu",
    }  # fmt: skip
    assert fingerprint.cpu_of(ARM) == {"vendor": "0x41", "family": "8", "model": "0xd40", "flags": "asimd bf16 sve"}
    for other in (X86.format("AuthenticAMD", flags), X86.format("GenuineIntel", "fpu avx512f avx512_bf16"), "", ARM):
        assert fingerprint.cpu_of(other) != fingerprint.cpu_of(X86.format("GenuineIntel", flags))


def test_a_cpu_without_its_file_is_described_by_what_torch_knows(monkeypatch, tmp_path):
    """As on macOS."""
    monkeypatch.setattr(fingerprint, "CPU_FILE", tmp_path / "none")
    forget()
    flags = fingerprint.components("cpu")["cpu"]["flags"].split()
    forget()
    assert flags == sorted(name for name, has in torch.cpu.get_capabilities().items() if has is True)


PRODUCT = """
import hashlib, json, torch
from bias_transfer.storage import fingerprint

torch.set_num_threads(1)
torch.manual_seed(0)
left, right = torch.randn(64, 512).bfloat16(), torch.randn(512, 64).bfloat16()
bits = (left @ right).view(torch.int16).numpy().tobytes()
print(json.dumps([fingerprint.hardware("cpu"), hashlib.sha256(bits).hexdigest()]))
"""
KERNELS = (
    {}, {}, {"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"MKL_CBWR": "COMPATIBLE"}, {"MKL_CBWR": "COMPATIBLE"}, {"OPENBLAS_CORETYPE": "Nehalem"},
)  # fmt: skip
"""Settings of a process by which libraries take other kernels."""


@pytest.mark.long
def test_equal_fingerprints_mean_equal_bits_in_other_processes():
    clean = {name: value for name, value in os.environ.items() if name not in fingerprint.SWITCHES}
    children = [
        subprocess.Popen([sys.executable, "-c", PRODUCT], env=clean | own, stdout=subprocess.PIPE, text=True)
        for own in KERNELS
    ]
    printed = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(KERNELS)
    for own, (machine, bits) in zip(KERNELS, map(json.loads, printed), strict=True):
        for other, (same_machine, same_bits) in zip(KERNELS, map(json.loads, printed), strict=True):
            assert (machine == same_machine) == (own == other), (own, other)
            assert machine != same_machine or bits == same_bits, (own, other)


def test_the_code_the_packages_and_the_machine_are_in_every_key(monkeypatch, tmp_path):
    before, cpu_file = fingerprint.machine("cpu", 1), tmp_path / "cpuinfo"
    cpu_file.write_text(X86.format("AuthenticAMD", "fpu"))
    for target, name, value in (
        (fingerprint, "NUMERICS", -1),
        (fingerprint, "version", lambda name: "0"),
        (fingerprint, "CODE", tmp_path),
        (torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS"),
        (torch.__config__, "show", lambda: "another build"),
        (fingerprint.np, "show_config", lambda mode: {"Build Dependencies": {"blas": {"name": "abacus"}}}),
        (fingerprint, "CPU_FILE", cpu_file),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            forget()
            assert fingerprint.machine("cpu", 1) != before, name
    forget()
    assert fingerprint.machine("cpu", 1) == before != fingerprint.machine("cpu", 2)


def test_the_code_is_that_of_the_whole_package():
    """Else an edit of a metric would leave its cached values in use."""
    assert fingerprint.CODE.name == "bias_transfer"
    assert {"spec.py", "metrics", "tasks"} <= {path.name for path in fingerprint.CODE.iterdir()}


def test_the_model_and_its_options_are_in_its_key():
    given = resolve(parse_trial(FULL)).trial
    for other in ({"model_digest": "x"}, {"options": {**given.options, "model.steps": 6}}):
        assert model_key(given.model_copy(update=other)) != model_key(given)
    assert model_key(given.model_copy(update={"upstream": "permute"})) == model_key(given)
    assert hashing.text_digest(["ab", "c"]) != hashing.text_digest(["a", "bc"])
