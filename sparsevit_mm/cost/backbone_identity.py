"""What decides how long a backbone takes, besides where it runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..models import SparseBackbone

__all__ = ['BackboneIdentity', 'blocks_of']

# Arguments kept as attributes that change what is computed and leave no trace in the parameters.
DECIDING = ('bypass', 'reactivate', 'package', 'unfold', 'num_heads', 'window_size', 'shift_size', 'stride', 'padding')
# Resized to the image, so their own size says nothing.
POSITIONS = ('pos_embed', 'absolute_pos_embed')


@dataclass(frozen=True)
class BackboneIdentity:
    """The backbone that something was measured for.

    Args:
        type: Name of its class.
        sites: Names of its sites.
        groups: Sites of each group; within one sparsity never decreases.
        signature: Short hash of the names and shapes of its parameters (those of position embeddings left out), of the
            blocks of its sites, its bypass and its selectors; None in a table made by hand, where it is not compared.
    """

    type: str
    sites: tuple[str, ...]
    groups: tuple[int, ...]
    signature: str | None = None

    @classmethod
    def of(cls, backbone: SparseBackbone) -> 'BackboneIdentity':
        """That of a backbone."""
        layout = backbone.sparsity_layout
        return cls(type(backbone).__name__, layout.sites, layout.groups, _signature(backbone))

    def differences(self, backbone: SparseBackbone) -> list[str]:
        """In what a backbone is another, in words; empty if it is the same."""
        own, other = self.to_dict(), BackboneIdentity.of(backbone).to_dict()
        if self.signature is None:
            other['signature'] = None
        names = [name for name in own if own[name] != other[name]]
        if names == ['signature']:
            return [
                f'the {other["type"]} differs in widths, depths, selector or bypass (signature {own["signature"]} in '
                f'the table, {other["signature"]} here)'
            ]
        return [
            f'{name} of the backbone: {_listed(own[name])} in the table, {_listed(other[name])} here'
            for name in names
            if name != 'signature'
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            'type': self.type,
            'sites': list(self.sites),
            'groups': list(self.groups),
            'signature': self.signature,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'BackboneIdentity':
        """The inverse of :meth:`to_dict`; the signature may be missing.

        Raises:
            ValueError: If sites and groups contradict each other.
        """
        made = cls(
            str(values['type']),
            tuple(map(str, values['sites'])),
            tuple(map(int, values['groups'])),
            values.get('signature'),
        )
        if not made.sites or sum(made.groups) != len(made.sites) or min(made.groups, default=1) < 1:
            raise ValueError(f'groups {made.groups} do not add up to the {len(made.sites)} sites.')
        return made


def blocks_of(backbone: SparseBackbone) -> list[tuple[nn.Module, int | None]]:
    """The blocks in the order in which they run, each with the index of its site; ``None`` before the first one.

    Raises:
        ValueError: If the blocks are not where those of our backbones are.
    """
    stages = getattr(backbone, 'stages', None)
    stages = [backbone.layers] if stages is None else [getattr(stage, 'blocks', stage) for stage in stages]
    sites = backbone.block_sites
    if [len(stage) for stage in stages] != [len(stage) for stage in sites]:
        raise ValueError(
            f'{type(backbone).__name__} has stages of {[len(stage) for stage in stages]} blocks, but block_sites names '
            f'{[len(stage) for stage in sites]}: it must give the site of every block.'
        )
    return [pair for stage, own in zip(stages, sites) for pair in zip(stage, own)]


def _signature(backbone: SparseBackbone) -> str:
    parts = {
        'parameters': [
            (name, tuple(parameter.shape)) for name, parameter in backbone.named_parameters() if name not in POSITIONS
        ],
        'block_sites': backbone.block_sites,
        'selectors': [type(selector).__name__ for selector in backbone.selectors()],
        'arguments': [
            (name, key, repr(vars(module)[key]))
            for name, module in backbone.named_modules()
            for key in DECIDING
            if key in vars(module)
        ],
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _listed(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list) else str(value)
