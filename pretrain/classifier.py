"""A trained model with a head that gives one of several labels to a whole text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.pretrain.model import Linear, ModelShape, Transformer


class Head(nn.Module):
    """From hidden states to logits, with the shapes and names that `transformers` has, so that an export fits.

    Causal: a matrix, without bias, on the last token (`LlamaForSequenceClassification`). Masked: a dense layer, GELU and a
    linear layer on the mean of all tokens (`EuroBertForSequenceClassification`).
    """

    def __init__(self, width: int, labels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        if causal:
            self.score: nn.Module = Linear(width, labels)
        else:
            self.dense = nn.Linear(width, width)
            self.score = nn.Linear(width, labels)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """hidden (batch, length, width), lengths (batch,) -> logits (batch, labels), float32."""
        hidden = hidden.float()
        if self.causal:
            last = (lengths.long() - 1)[:, None, None].expand(-1, -1, hidden.size(-1))
            found: Tensor = self.score(hidden.gather(1, last)[:, 0])
            return found
        inside = _inside(hidden.size(1), lengths)[:, :, None]
        mean = (hidden * inside).sum(dim=1) / lengths[:, None]
        found = self.score(F.gelu(self.dense(mean)))
        return found


class Classifier(Transformer):
    """A Transformer whose states `classifier` turns into logits of labels; the head over the vocabulary stays unused."""

    def __init__(self, shape: ModelShape, labels: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(shape, dtype)
        self.classifier = Head(shape.width, labels, shape.causal)
        if self.head is not None:
            self.head.requires_grad_(False)

    def classify(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (batch, length), filled up on the right beyond `lengths` (batch,) -> logits (batch, labels), float32."""
        # A causal model does not see what follows, so nothing has to be hidden from it.
        mask = None if self.shape.causal else _inside(tokens.size(1), lengths)[:, None, None]
        hidden = self.trunk(tokens, *self.rotation(tokens.size(1), tokens.device), mask)
        found: Tensor = self.classifier(hidden, lengths)
        return found

    @torch.no_grad()
    def init_head(self, seed: int) -> None:
        """Normal(0, 0.02) and no bias, drawn on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.classifier.parameters():
            drawn = torch.empty(parameter.shape).normal_(0.0, 0.02, generator=generator)
            parameter.copy_(drawn if parameter.ndim > 1 else torch.zeros_like(drawn))

    def train_only_head(self) -> None:
        """From here on only the head learns."""
        self.requires_grad_(False)
        self.classifier.requires_grad_(True)


class LabelObjective(nn.Module):
    """Cross-entropy of the labels, called in training as `loss.Objective` is."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(objective, nats) summed over the rows; targets (batch, 1) are labels, positions (batch, 1) lengths."""
        assert positions is not None
        logits = self.model.classify(inputs, positions[:, 0])
        loss = F.cross_entropy(logits, targets[:, 0].long(), reduction="sum")
        return loss, loss.detach()


@torch.no_grad()
def chances(model: Classifier, inputs: Tensor, lengths: Tensor) -> Tensor:
    """Chances of the labels, (batch, labels), on the CPU; shapes as in `Classifier.classify`."""
    return torch.softmax(model.classify(inputs, lengths), dim=-1).cpu()


def _inside(length: int, lengths: Tensor) -> Any:
    """True for the tokens of a text, False for what fills its row up: (batch, length)."""
    return torch.arange(length, device=lengths.device) < lengths[:, None]
