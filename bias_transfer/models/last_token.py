"""Classification by the last token: a causal model's classifier reads the state of each text's last real token.

transformers finds that token by the id of the padding token, which fails where a tokenizer has none, or uses it within texts
(often it is the end-of-text token). Here it is found by the attention mask.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import SequenceClassifierOutput


def pool_last_token(classifier: Any) -> Any:
    """The classifier, whose forward pass now pools by the attention mask, in place; its weights and their names are the
    stock ones."""
    classifier.forward = MethodType(_forward, classifier)
    return classifier


def _forward(
    classifier: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any
) -> SequenceClassifierOutput:
    """Logits, (texts, labels). attention_mask: (texts, tokens), 1 for real tokens, with padding on either side of a text."""
    # Counted from the text's first token, or padding on the left would shift positions.
    positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    states = classifier.base_model(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False, **options
    ).last_hidden_state
    places = torch.arange(attention_mask.shape[1], device=states.device)
    last = (places * attention_mask).argmax(dim=1)
    pooled = states[torch.arange(len(states), device=states.device), last]
    return SequenceClassifierOutput(logits=classifier.score(pooled))
