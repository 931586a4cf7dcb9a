"""One stage of the cascade: update the contextual embeddings (Eq. 3), then the mask features (Eq. 4 and PAN).

Shapes: B images, S sentences an image, N = B * S, Q queries, C channels, H W height and width, L words.
"""

from __future__ import annotations

from torch import Tensor, nn

from jmceln_core.model.layers import MultiHeadAttention, repeat
from jmceln_core.model.pan import PAN, Gates


def tokens(x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)


class Stage(nn.Module):
    """q' = MHA(q, F_m, F_mt) + q (Eq. 3);  F' = MHA(F_mt, q', q') + F_mt (Eq. 4);  F_mt' = PAN(F', F_mt).

    `dense=False` leaves Eq. 4 and PAN out: only the queries change. `pan=False` leaves PAN out (Table 2, row 4).
    `contextual=False` leaves Eq. 3 out: Eq. 4 reads the sentence's words in the place of the queries.
    Beyond the paper: `words` lets the queries read the sentence's words first; `mixing` adds self-attention among the
    queries and a feed-forward layer; both with layer norm before them and a residual.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        dense: bool = True,
        pan: bool = True,
        pan_projection: bool = False,
        pan_gates: Gates = "product",
        contextual: bool = True,
        words: bool = False,
        mixing: bool = False,
    ) -> None:
        super().__init__()
        self.update = MultiHeadAttention(channels, heads) if contextual else None
        self.refresh = MultiHeadAttention(channels, heads) if dense else None
        self.pan = PAN(channels, projection=pan_projection, gates=pan_gates) if dense and pan else None
        self.read_words = MultiHeadAttention(channels, heads) if words else None
        self.read_norm = nn.LayerNorm(channels) if words else None
        self.mix = MultiHeadAttention(channels, heads) if mixing else None
        self.mix_norm = nn.LayerNorm(channels) if mixing else None
        self.feedforward = (
            nn.Sequential(
                nn.LayerNorm(channels),
                nn.Linear(channels, 4 * channels),
                nn.GELU(),
                nn.Linear(4 * channels, channels),
            )
            if mixing
            else None
        )
        # queries and residual sums grow over stages; Eq. 3 itself has no norm in the paper
        self.update_norm = nn.LayerNorm(channels) if mixing else nn.Identity()

    def embed(
        self,
        queries_NQC: Tensor,
        memory: Tensor,
        values: Tensor,
        words_NLC: Tensor | None = None,
        word_mask_NL: Tensor | None = None,
    ) -> Tensor:
        """Eq. 3. `memory` F_m and `values` F_mt are (B, HW, C) or (N, HW, C) tokens; B divides N, and the sentences of
        an image stand together. Returns (N, Q, C)."""
        if self.update is None:
            raise ValueError("this stage has no Eq. 3: give the words to predict")
        if self.read_words is not None and self.read_norm is not None:
            if words_NLC is None:
                raise ValueError("this stage reads words: give it words_NLC and word_mask_NL")
            queries_NQC = queries_NQC + self.read_words(self.read_norm(queries_NQC), words_NLC, words_NLC, word_mask_NL)
        if self.mix is not None and self.mix_norm is not None:
            normed = self.mix_norm(queries_NQC)
            queries_NQC = queries_NQC + self.mix(normed, normed, normed)
        groups = max(memory.shape[0], values.shape[0])
        # where keys and values are the image's own, its sentences' queries attend together, and neither is repeated
        query = self.update_norm(queries_NQC).reshape(groups, -1, queries_NQC.shape[-1])
        attended = self.update(query, repeat(memory, groups), repeat(values, groups))
        queries_NQC = queries_NQC + attended.reshape(queries_NQC.shape)
        return queries_NQC if self.feedforward is None else queries_NQC + self.feedforward(queries_NQC)

    def predict(
        self,
        queries_NQC: Tensor,
        previous_NCHW: Tensor,
        prompt_NCHW: Tensor | None = None,
        mask_NQ: Tensor | None = None,
    ) -> Tensor:
        """Eq. 4 and PAN: the mask features of this stage (N, C, H, W) from those of the previous one.

        `prompt_NCHW` (beyond the paper) is added to the F_mt of Eq. 4, both as its query and as its residual; PAN gates
        with and adds the F_mt without it. `mask_NQ` (bool) says which of the queries count, where these are words.
        """
        if self.refresh is None:
            return previous_NCHW
        read = previous_NCHW if prompt_NCHW is None else previous_NCHW + prompt_NCHW
        attended = self.refresh(tokens(read), queries_NQC, queries_NQC, mask_NQ)
        current = read + attended.transpose(1, 2).reshape(previous_NCHW.shape)
        return current if self.pan is None else self.pan(current, previous_NCHW)
