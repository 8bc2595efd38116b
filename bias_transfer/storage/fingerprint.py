"""Cache keys: everything that an intermediate result depends on. Equal keys mean bit-identical results.

The fingerprint of the machine is a part of them, and a fact of every result; it is never a part of a trial's id.
"""

from __future__ import annotations

import functools
import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bias_transfer.determinism import WORKSPACE, WORKSPACE_VARIABLE
from bias_transfer.hashing import digest
from bias_transfer.spec import NUMERICS, Trial

PACKAGES = (
    "accelerate", "datasets", "gguf", "numpy", "peft", "scikit-learn", "scipy", "tokenizers", "torch", "transformers",
    "vaderSentiment",
)  # fmt: skip
"""Another version of one of these may give other bits."""

# The root of the package, not this file's folder: an edit anywhere in it makes cached results invalid.
CODE = Path(__file__).parents[1]

CPU_FILE = Path("/proc/cpuinfo")

CPU_FIELDS = {
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "flags": ("flags", "Features"),
}
"""Property of the CPU by which kernels are chosen -> its name in `CPU_FILE` on x86 and on ARM."""

SWITCHES = (
    "ATEN_CPU_CAPABILITY", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES", "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""Environment variables by which torch, oneDNN, MKL, OpenBLAS, NumPy and cuBLAS choose other kernels."""

AFTER = (
    "downstream", "downstream_dose", "epochs", "batch_size", "micro_batch_size", "learning_rate", "warmup", "weight_decay",
    "clip", "tuning",
)  # fmt: skip
"""Fields of a trial that act after the upstream measures. Every other field is part of their key, so that a field added
later is in it by default."""

NAMED_BY_CONTENT = ("task", "data", "model", "plugins")
"""Fields that name files, a folder, a hub id or modules: their digest replaces the name in a key."""


def machine(device: str, threads: int) -> dict[str, Any]:
    """What any computation's bits depend on in addition to its input: code, package versions, machine and threads."""
    return {
        "numerics": NUMERICS,
        "code": _code(),
        "packages": packages(),
        "machine": hardware(device),
        "threads": threads,
    }


def hardware(device: str) -> str:
    """The machine's fingerprint: the kind of device and CPU, and a digest of all `components`."""
    parts = components(device)
    cpu = " ".join([parts["cpu"]["vendor"], f"{parts['cpu']['family']}/{parts['cpu']['model']}"])
    shown = parts["gpu"]["name"] if device == "cuda" else cpu
    return f"{device} {parts['architecture']} {shown} {digest(parts)[:12]}"


def components(device: str) -> dict[str, Any]:
    """The parts of the fingerprint as JSON: CPU, BLAS libraries, torch's build, `SWITCHES` that are set, and GPU with driver.

    torch's own capability string is not enough: it says AVX512 on CPUs whose products in bf16 differ, by AVX512-bf16 or AMX.
    """
    return {
        "architecture": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__config__.show(),
        "blas": _blas(),
        "switches": {name: os.environ[name] for name in SWITCHES if name in os.environ},
        "gpu": _gpu() if device == "cuda" else {},
    }


@functools.cache
def _cpu() -> dict[str, Any]:
    """Vendor, family, model and instruction flags, as the system has them; caches, by which oneDNN cuts its blocks."""
    capabilities = torch.cpu.get_capabilities()
    caches = {name: value for name, value in capabilities.items() if name.endswith("cache_size")}
    with suppress(OSError):
        return {**cpu_of(CPU_FILE.read_text(encoding="utf-8", errors="replace")), "caches": caches}
    # Not Linux: what torch finds out about the CPU.
    flags = " ".join(sorted(name for name, value in capabilities.items() if value is True))
    name = str(capabilities.get("cpu_name", ""))
    return {"vendor": platform.processor(), "family": name, "model": "", "flags": flags, "caches": caches}


def cpu_of(cpuinfo: str) -> dict[str, str]:
    """The values of `CPU_FIELDS` for the first core that a text like /proc/cpuinfo lists; flags are sorted."""
    values: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    found = {
        key: next((values[name] for name in names if name in values), "unknown") for key, names in CPU_FIELDS.items()
    }
    return {**found, "flags": " ".join(sorted(found["flags"].split()))}


def _blas() -> dict[str, str]:
    """NumPy's BLAS; torch's is named by its build, and scikit-learn uses SciPy's, which its version fixes."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {name: str(blas.get(name, "")) for name in ("name", "version", "openblas configuration")}


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = ""
    with suppress(OSError):
        driver = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    return {
        "name": torch.cuda.get_device_name(),
        "capability": [properties.major, properties.minor],
        "processors": properties.multi_processor_count,
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        # `determinism.deterministic` sets it, in a worker later than in the driver.
        "workspace": os.environ.get(WORKSPACE_VARIABLE, WORKSPACE),
    }


@functools.cache
def packages() -> dict[str, str]:
    """Name -> version of `PACKAGES`."""
    return {name: version(name) for name in PACKAGES}


def versions() -> str:
    """`packages` in one line, as `tracking.runs.conditions` reads it from a run."""
    return ", ".join(f"{name} {number}" for name, number in sorted(packages().items()))


@functools.cache
def _code() -> str:
    """SHA-256 over the package's source files, so that nobody who edits a measure has to think of the cache."""
    files = sorted(CODE.rglob("*.py"))
    return digest([[str(path.relative_to(CODE)), path.read_text(encoding="utf-8")] for path in files])


def model_key(trial: Trial) -> dict[str, Any]:
    """What a resolved trial's model, before any arm, and its tokenizer depend on."""
    options = {key: value for key, value in trial.options.items() if key.startswith("model.")}
    return {"model": trial.model_digest, "options": options}


def upstream_key(trial: Trial) -> dict[str, Any]:
    """What a resolved trial's treated model and upstream measures depend on: every field but those of `AFTER`.

    The measures of an untreated model do not depend on the seed; with an upstream arm the seed names the arm's draws.
    """
    fields = trial.model_dump(exclude_none=True, exclude={*AFTER, "options"})
    for name in NAMED_BY_CONTENT:
        if getattr(trial, f"{name}_digest"):
            del fields[name]
    if trial.upstream == "none":
        del fields["seed"]
    options = {
        key: value
        for key, value in trial.options.items()
        if key.partition(".")[0] not in ("downstream", "tuning", "evaluate")
    }
    options = {key: value for key, value in options.items() if f"{key}_digest" not in options}
    return {**fields, "options": options}
