"""What a layer computes, and may therefore be read, replaced and moved.

A component is added by its line here, and by what `engine.sites.visit_parts` shows of a layer under its name: settings,
errors, titles and tests take the names from here. Light to import: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

WITH_HEADS = ("q", "k", "v", "z")
"""Side by side in columns: q, k and v as their projections give them, z as `o_proj` takes it."""

WITHOUT_HEADS: Mapping[str, str] = {
    "resid_pre": "the stream at the start of their layers",
    "attn_out": "what the attention of their layers adds",
    "resid_mid": "the stream after their layers' attention",
    "mlp_out": "what the MLPs of their layers add",
}
"""As wide as the stream; in words, said of the layers that some heads are in."""

COMPONENTS = ("resid_pre", *WITH_HEADS, *(name for name in WITHOUT_HEADS if name != "resid_pre"))
"""In the order in which a layer computes them, which is the order in which a trace must reach for them."""
