# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Encoder layers of mmpretrain with another attention, or for some of their tokens.

All of this runs the modules of an existing layer in another way, so that its parameters, and their
names, are those of mmpretrain.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from ibot_mm.functional.rotary_embedding import rotate
from ibot_mm.functional.token_layout import TokenLayout

from .stochastic_depth import add_branch, sample_scale


class EncoderLayer(TransformerEncoderLayer):
    """Layer of mmpretrain's ``VisionTransformer`` that is given its attention.

    Skips what drop path drops.
    """

    forward_methods = ('forward_rows',)  # of who is called by others than forward()

    @classmethod
    def adopt(cls, layer: TransformerEncoderLayer) -> None:
        """Make a layer of mmpretrain one of these; parameters stay as they are."""
        layer.__class__ = cls
        layer.attn.__class__ = Attention
        if type(layer.ffn) is FFN:  # others have no drop path
            layer.ffn.__class__ = FeedForward

    def forward(
        self,
        tokens: Tensor,
        attention: Callable[..., Tensor] | None = None,
        layout: TokenLayout | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            tokens: Shape (B, T, D), or with ``layout`` (R, D).
            attention: Takes the attention module, normalized tokens and, where there is one, their
                layout; gives the output of the module's last projection, such as :func:`attend`
                or :func:`attend_by_size`. Defaults to None, the layer as mmpretrain runs it,
                without rotary positions.
            layout: Of tokens of images of several sizes. Defaults to None, one size.

        Returns:
            The shape of the tokens.
        """
        if attention is None:
            return super().forward(tokens)
        tokens = add_branch(
            tokens,
            lambda tokens, *layout: self.attn(self.ln1(tokens), attention, *layout),
            self.attn.out_drop,
            layout,
        )
        if not isinstance(self.ffn, FeedForward):
            return self.ffn(self.ln2(tokens), identity=tokens)
        return add_branch(
            tokens,
            lambda tokens, *layout: self.ffn(self.ln2(tokens), branch=True),
            self.ffn.dropout_layer,
            layout,
        )

    def forward_rows(self, tokens: Tensor, rows: Tensor, angles: Tensor | None = None) -> Tensor:
        """Run the layer where only some of its outputs are wanted.

        All tokens are attended to. Output projection and feed-forward network, two thirds of the
        layer, run on the wanted ones; where these are only [CLS], so does the rest. The
        layer and its attention are not called as modules: hooks on them do not fire.

        Args:
            tokens: Shape (B, T, D).
            rows: Places of the wanted tokens among the B * T, the first B those of each image's
                first token, shape (R,).
            angles: As in :func:`attend`. Defaults to None.

        Returns:
            Shape (R, D).
        """
        module, images = self.attn, rows // tokens.shape[1]
        normalized = self.ln1(tokens)
        if len(rows) == len(tokens) and angles is None and _is_plain(module):
            attended = attend_first(module, normalized)
        else:
            attended = attend(module, normalized, angles, rows)
        attended = module.proj_drop(attended)
        scale = sample_scale(tokens, module.out_drop)[images, None]
        wanted = tokens.flatten(0, 1).index_select(0, rows) + module.gamma1(attended) * scale
        if not isinstance(self.ffn, FeedForward):
            return self.ffn(self.ln2(wanted), identity=wanted)
        scale = sample_scale(tokens, self.ffn.dropout_layer)[images, None]
        return wanted + self.ffn(self.ln2(wanted), branch=True) * scale


class Attention(MultiheadAttention):
    """Attention module of :class:`EncoderLayer`, up to layer scale; drop path is the layer's."""

    def forward(
        self,
        tokens: Tensor,
        attention: Callable[..., Tensor] | None = None,
        *layout: TokenLayout,
    ) -> Tensor:
        """Compute what the layer adds to its input from normalized tokens, of the same shape."""
        if attention is None:
            return super().forward(tokens)
        return self.gamma1(self.proj_drop(attention(self, tokens, *layout)))


class FeedForward(FFN):
    """As :class:`Attention`, the feed-forward network."""

    def forward(
        self, tokens: Tensor, identity: Tensor | None = None, branch: bool = False
    ) -> Tensor:
        """Compute, as a ``branch``, what the layer adds to its input, for tokens of any shape."""
        if not branch:
            return super().forward(tokens, identity)
        return self.gamma2(self.layers(tokens))


def attend(
    attention: MultiheadAttention,
    tokens: Tensor,
    angles: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Compute multi-head attention with rotated queries and keys.

    Args:
        attention: Attention module of an encoder layer.
        tokens: Normalized tokens (B, T, D).
        angles: Of the rotary position embedding, shape (N, C / 2) or (B, N, C / 2) for heads of
            C channels; the last N tokens are the patches. Defaults to None, no rotation.
        rows: Places, among the B * T, of the tokens to project, shape (R,). Defaults to None, all.

    Returns:
        Shape (B, T, D), with ``rows`` (R, D).
    """
    output = _mix_values(attention, attention.qkv(tokens), angles)
    return attention.proj(output if rows is None else output.flatten(0, 1).index_select(0, rows))


def attend_by_size(
    attention: MultiheadAttention,
    tokens: Tensor,
    layout: TokenLayout,
    angles: Sequence[Tensor | None],
) -> Tensor:
    """Compute what :func:`attend` does for images of several sizes, with one pair of projections.

    Args:
        attention: Attention module of an encoder layer.
        tokens: Normalized tokens (R, D).
        layout: How they lie.
        angles: For each size, as in :func:`attend`.

    Returns:
        Shape (R, D).
    """
    of_sizes = zip(layout.split(attention.qkv(tokens)), angles)
    outputs = [_mix_values(attention, *of_size).flatten(0, 1) for of_size in of_sizes]
    return attention.proj(torch.cat(outputs))


def _mix_values(attention: MultiheadAttention, qkv: Tensor, angles: Tensor | None) -> Tensor:
    """Do what is between the two projections: (B, T, 3 * D) -> (B, T, D)."""
    qkv = qkv.unflatten(2, (3, attention.num_heads, attention.head_dims))
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))  # (B, heads, T, C)
    if angles is not None:
        angles = angles.unsqueeze(-3)  # the same for all heads
        query, key = rotate(query, angles), rotate(key, angles)
    dropout = attention.attn_drop if attention.training else 0.0
    output = attention.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return output.transpose(1, 2).flatten(2)


def attend_first(attention: MultiheadAttention, tokens: Tensor) -> Tensor:
    """Attend from the first token of each image alone, see :func:`attend`.

    The product of a query with a key is that of the query, taken back through the key's
    projection, with the token; the mean of values is the value of the mean token. The bias of the
    keys adds the same to all products of a query: the softmax does not see it.

    Args:
        attention: Attention module for which :func:`_is_plain` holds.
        tokens: Normalized tokens (B, T, D).

    Returns:
        Shape (B, D).
    """
    heads = attention.num_heads, attention.head_dims  # (heads, C)
    of_query, of_key, of_value = attention.qkv.weight.chunk(3)  # (heads * C, D) each
    bias = attention.qkv.bias
    query_bias, _, value_bias = (None, None, None) if bias is None else bias.chunk(3)
    query = F.linear(tokens[:, 0], of_query, query_bias).unflatten(1, heads)
    query = torch.einsum('bhc,hcd->bhd', query, of_key.unflatten(0, heads))
    # The heads, which share keys and values, are the queries of one head of D channels.
    mean = F.scaled_dot_product_attention(
        query[:, None], tokens[:, None], tokens[:, None], scale=attention.head_dims**-0.5
    )[:, 0]  # (B, heads, D)
    value = torch.einsum('bhd,hcd->bhc', mean, of_value.unflatten(0, heads)).flatten(1)
    return attention.proj(value if value_bias is None else value + value_bias)


def _is_plain(attention: MultiheadAttention) -> bool:
    """Whether only the module's linear layers and a softmax make its output."""
    return (
        type(attention.qkv) is nn.Linear
        and attention.scaled_dot_product_attention is F.scaled_dot_product_attention
        and not (attention.attn_drop and attention.training)
    )


def attend_in_windows(
    attention: MultiheadAttention,
    tokens: Tensor,
    angles: Tensor | None,
    grid: tuple[int, int],
    window: int,
) -> Tensor:
    """Compute multi-head attention of each patch to those of its window.

    As in ViTDet, zeros after the norm fill incomplete windows and take part in the attention. A
    map that is smaller than the window is one window.

    Args:
        attention: Attention module of an encoder layer.
        tokens: Normalized patches (B, H * W, D).
        angles: As in :func:`attend`, of the whole map: each window keeps those of its place.
        grid: Patches (H, W).
        window: Side of a window in patches.

    Returns:
        Shape (B, H * W, D).
    """
    sides = (min(window, grid[0]), min(window, grid[1]))
    if angles is not None:
        angles = partition(angles[None], grid, sides).repeat(len(tokens), 1, 1)
    windows = attend(attention, partition(tokens, grid, sides), angles)
    return unpartition(windows, grid, sides)


def partition(tokens: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Cut maps into windows, zeros at the right and bottom.

    Args:
        tokens: Shape (B, H * W, D).
        grid: (H, W).
        window: Height and width (h, w) of a window.

    Returns:
        Shape (B * windows, h * w, D), the windows of an image row by row.
    """
    maps = tokens.unflatten(1, grid)
    maps = F.pad(maps, (0, 0, 0, -grid[1] % window[1], 0, -grid[0] % window[0]))
    windows = maps.unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return windows.transpose(2, 3).flatten(0, 2).flatten(1, 2)  # from (B, rows, h, columns, w, D)


def unpartition(windows: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Put windows back into maps, the reverse of :func:`partition`."""
    counts = [-(-side // length) for side, length in zip(grid, window)]  # rounded up
    maps = windows.unflatten(1, window).unflatten(0, (-1, *counts))
    maps = maps.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return maps[:, : grid[0], : grid[1]].flatten(1, 2)
