"""What may move from one model to another: they are compared before anything runs.

A head's output z means the same in two models only if they are built alike, and the tokens it is read at are the same
tokens. Its q and k meet those of other heads and positions, so the angles by which positions turn them and the scale of
their products must agree too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entitrack.core.components import COMPONENTS, WITH_HEADS
from entitrack.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from entitrack.models.model import Model

NOTHING_MOVES = frozenset(COMPONENTS)


@dataclass(frozen=True)
class Difference:
    """One thing in which two models differ.

    Attributes:
        what: The thing.
        base: How it is in the base.
        donor: How it is in the donor.
        forbids: Components that may therefore not move; none where it is only worth knowing.
    """

    what: str
    base: str
    donor: str
    forbids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """What a donor may give to a base.

    Attributes:
        base: Name of the base.
        donor: Name of the donor.
        differences: All that was found.
    """

    base: str
    donor: str
    differences: tuple[Difference, ...]

    @property
    def may_move(self) -> tuple[str, ...]:
        """Components that may move: any of `COMPONENTS`."""
        forbidden = frozenset[str]().union(*(found.forbids for found in self.differences))
        return tuple(component for component in COMPONENTS if component not in forbidden)

    def reasons(self, components: Iterable[str]) -> list[str]:
        """What stands against moving these components, in words; nothing where they may."""
        wanted = frozenset(components)
        return [
            f"{found.what} {found.base} in {self.base!r}, {found.donor} in {self.donor!r}"
            for found in self.differences
            if found.forbids & wanted
        ]

    def require(self, components: Iterable[str], place: str) -> None:
        """Refuse to move components that may not.

        Raises:
            UserError: Naming the differences that stand against it; `place` is the config key that asked for it.
        """
        wanted = dict.fromkeys(components)
        refused = [component for component in wanted if component not in self.may_move]
        if refused:
            reasons = "; ".join(self.reasons(refused))
            problem = f"{', '.join(refused)} of {self.donor!r} cannot move to {self.base!r}: {reasons}"
            raise UserError(place, problem, self.may_move or ["nothing may move"])


def compare(base: Model, donor: Model, texts: Iterable[str]) -> Verdict:
    """What a donor may give to a base on these prompts.

    Args:
        base: The base.
        donor: The donor.
        texts: The prompts, with their answers.
    """
    one, other = _traits(base), _traits(donor)
    found = [Difference(what, str(one[what]), str(other[what]), forbids) for what, forbids in _FORBIDS.items()]
    differences = [difference for difference in found if difference.base != difference.donor]
    tokens = compare_tokens(base, donor, texts)
    return Verdict(base.name, donor.name, (*([tokens] if tokens else []), *differences))


def compare_tokens(base: Model, member: Model, texts: Iterable[str]) -> Difference | None:
    """The first text to which a member's own tokenizer gives other ids than the base's, or ids it has no row for.

    Every member is given the base's ids, so another tokenizer would have it read other words.
    """
    tokenizer, own = base.tokenizer, member.tokenizer
    rows = member.config.vocab_size
    if _same_content(tokenizer, own) and len(tokenizer) <= rows:
        return None
    for text in texts:
        ids, own_ids = list(tokenizer(text)["input_ids"]), list(own(text)["input_ids"])
        if ids != own_ids:
            at = next((n for n, (a, b) in enumerate(zip(ids, own_ids, strict=False)) if a != b), -1)
            start = f"token {at} of {text[:40]!r} is" if at >= 0 else f"tokens of {text[:40]!r} are"
            shown = (str(ids[at]), str(own_ids[at])) if at >= 0 else (str(len(ids)), str(len(own_ids)))
            return Difference(f"the tokenizers disagree: {start}", *shown, NOTHING_MOVES)
        if max(ids, default=0) >= rows:
            return Difference("the vocabulary is", f"used up to token {max(ids)}", f"{rows} tokens", NOTHING_MOVES)
    return None


def require_tokens(base: Model, member: Model, texts: Iterable[str], place: str) -> None:
    """Refuse a member that would read other words than the base does.

    Raises:
        UserError: Naming the first text; `place` is the config key that asked for the member.
    """
    found = compare_tokens(base, member, texts)
    if found:
        problem = f"{member.name!r} cannot read the prompts of {base.name!r}: {found.what}"
        problem += f" {found.base} in {base.name!r}, {found.donor} in {member.name!r}"
        raise UserError(place, problem, fix="name members that share the base's tokenizer")


_FORBIDS: dict[str, frozenset[str]] = {
    "layers are": NOTHING_MOVES,
    "heads are": frozenset(WITH_HEADS),
    "d_head is": frozenset(WITH_HEADS),
    "the residual stream's width is": NOTHING_MOVES,
    "norms are": NOTHING_MOVES,
    "KV heads are": frozenset("vk"),
    "rotary base and scaling are": frozenset("qk"),
    "the scale of q times k is": frozenset("qk"),
    "the cap of attention scores is": frozenset("qk"),
    "the cap of logits is": frozenset(),
    "the vocabulary's size is": frozenset(),
    "special tokens are": frozenset(),
}
"""What is compared -> which components may not move where it differs."""


def _traits(model: Model) -> dict[str, object]:
    """What is compared, in words."""
    config, anatomy = model.config, model.anatomy
    special = model.tokenizer.special_tokens_map
    return {
        "layers are": anatomy["n_layers"],
        "heads are": anatomy["n_heads"],
        "d_head is": anatomy["d_head"],
        "the residual stream's width is": config.hidden_size,
        "norms are": model.outline.norms,
        "KV heads are": anatomy["n_kv_heads"],
        "rotary base and scaling are": _rotary(config),
        "the scale of q times k is": _scale(config),
        "the cap of attention scores is": getattr(config, "attn_logit_softcapping", None),
        "the cap of logits is": anatomy["softcap"],
        "the vocabulary's size is": config.vocab_size,
        "special tokens are": {name: str(special[name]) for name in sorted(special)},
    }


def _rotary(config: Any) -> str:
    """The angles by which positions turn q and k, as the configuration gives them."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    found = {**given} if isinstance(given, dict) else {}
    for name in ("rope_theta", "partial_rotary_factor", "rotary_pct"):
        value = getattr(config, name, None)
        if value is not None:
            found.setdefault(name, value)
    if found.get("rope_type") in ("dynamic", "longrope"):
        found["max_position_embeddings"] = config.max_position_embeddings
    return ", ".join(f"{name} {found[name]}" for name in sorted(found)) or "none"


def _scale(config: Any) -> str:
    """What products of q and k are multiplied with, where that is not the usual."""
    for name in ("query_pre_attn_scalar", "attention_multiplier"):
        if getattr(config, name, None) is not None:
            return f"{name} {getattr(config, name)}"
    return "1 / sqrt(d_head)"


def _same_content(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers are certainly the same: what fast ones hold is a value that can be compared."""
    mine, theirs = getattr(one, "backend_tokenizer", None), getattr(other, "backend_tokenizer", None)
    return mine is not None and theirs is not None and mine.to_str() == theirs.to_str()
