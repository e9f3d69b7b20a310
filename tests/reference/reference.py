"""Shared by the reference scripts: batches, the attention mask of packed rows, and the loss."""
import torch
import torch.nn.functional as F

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Batch:
    """Rows of packed documents; `documents` is 0 at padding, targets are (flat index, token)."""

    def __init__(self, rows, length, tokens, positions, documents, targets):
        self.rows, self.length = rows, length
        self.tokens = torch.tensor(tokens, dtype=torch.long).reshape(rows, length)
        self.positions = torch.tensor(positions, dtype=torch.long).reshape(rows, length)
        self.documents = torch.tensor(documents, dtype=torch.long).reshape(rows, length)
        self.index = torch.tensor([t[0] for t in targets], dtype=torch.long)
        self.token = torch.tensor([t[1] for t in targets], dtype=torch.long)

    @classmethod
    def from_json(cls, value):
        return cls(*(value[k] for k in
                     ("rows", "length", "tokens", "positions", "documents", "targets")))

    def row(self, number):
        """One row as a micro-batch of its own."""
        mine = (self.index // self.length) == number
        targets = [(int(i) - number * self.length, int(t))
                   for i, t in zip(self.index[mine], self.token[mine])]
        pick = lambda t: t[number].tolist()
        return Batch(1, self.length, pick(self.tokens), pick(self.positions),
                     pick(self.documents), targets)

    def mask(self, dtype):
        """Additive [rows, 1, length, length]: causal inside a document; padding sees itself."""
        same = self.documents[:, :, None] == self.documents[:, None, :]
        causal = torch.ones(self.length, self.length, dtype=torch.bool).tril()
        learnt = (self.documents > 0)[:, :, None]
        own = torch.eye(self.length, dtype=torch.bool)
        allowed = (same & causal & learnt) | own
        mask = torch.zeros(allowed.shape, dtype=dtype)
        return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def logits_of(model, batch):
    """Logits [rows, length, vocabulary] of a packed batch."""
    return model(input_ids=batch.tokens, position_ids=batch.positions,
                 attention_mask=batch.mask(model.dtype), use_cache=False).logits


def logits_unpacked(model, batch):
    """The same, with every document run alone; padding stays zero."""
    out = None
    for row in range(batch.rows):
        for document in sorted(set(batch.documents[row].tolist()) - {0}):
            at = (batch.documents[row] == document).nonzero().flatten()
            part = model(input_ids=batch.tokens[row, at][None], use_cache=False).logits[0]
            if out is None:
                out = torch.zeros(batch.rows, batch.length, part.shape[-1], dtype=part.dtype)
            out[row, at] = part
    return out


def nll_sum(logits, batch):
    """Sum over the targets of the negative log-likelihood of their token."""
    picked = logits.reshape(-1, logits.shape[-1])[batch.index]
    return F.cross_entropy(picked.float() if picked.dtype != torch.float64 else picked,
                           batch.token, reduction="sum")


def relative(ours, reference):
    """max|a - b| / max|b|."""
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def peft_key(parameter_name):
    """PEFT's file name of a LoRA parameter: the adapter's own name is left out."""
    return parameter_name.replace(".default.", ".")


def train(model, optimizer, steps, max_grad_norm, rate=None):
    """`steps`: one list of micro-batches per step. Returns losses and norms before clipping."""
    losses, norms = [], []
    parameters = [p for p in model.parameters() if p.requires_grad]
    for number, micro_batches in enumerate(steps):
        if rate is not None:
            optimizer.param_groups[0]["lr"] = rate[number]
        total = sum(len(b.index) for b in micro_batches)
        loss = 0.0
        for batch in micro_batches:
            part = nll_sum(logits_of(model, batch), batch) / total
            part.backward()
            loss += part.item()
        limit = max_grad_norm if max_grad_norm > 0 else float("inf")
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, limit).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    return losses, norms
