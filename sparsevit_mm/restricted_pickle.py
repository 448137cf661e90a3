"""A pickle module for ``torch.load`` before torch 2.4, which has no list of what else a checkpoint may hold.

It knows the instructions that checkpoints consist of, and looks at each that could do more than make a container:
what may be named, called, or given a state.
"""

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

__all__ = ['Unpickler', 'restricted_to']

# Containers, numbers, text, the memo, and what the functions below check.
# fmt: off
INSTRUCTIONS = [
    'PROTO', 'STOP', 'BINPERSID', 'GLOBAL',
    'MARK', 'NONE', 'NEWTRUE', 'NEWFALSE',
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE',
    'SHORT_BINSTRING', 'EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3',
    'EMPTY_LIST', 'EMPTY_DICT',
    'BINGET', 'LONG_BINGET', 'BINPUT', 'LONG_BINPUT',
]
# fmt: on
OLD_MODULES = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}


class Unpickler(pickle._Unpickler):
    """Python's own, whose instructions can be replaced."""

    allowed: Mapping[str, Any] = {}  # 'module.name' -> what stands for it
    stateful: tuple[type, ...] = ()  # exact classes of what may be given a state, and be made without one
    dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in INSTRUCTIONS}

    def load(self) -> Any:
        """The object in the file.

        Raises:
            UnpicklingError: If the file has an instruction that no checkpoint needs, or uses one for something else.
        """
        try:
            return super().load()
        except KeyError as error:
            raise UnpicklingError(f'the file has the instruction {error}, which no checkpoint needs') from error

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        path = f'{OLD_MODULES.get(module, module)}.{name}'
        if path not in self.allowed:
            raise UnpicklingError(f'the file names {path}, which no checkpoint needs')
        return self.allowed[path]

    def _check(self, fits: bool, doing: str, what: Any) -> None:
        if not fits:
            raise UnpicklingError(f'the file {doing} an object of {type(what)!r}, which no checkpoint needs')

    def load_reduce(self) -> None:
        function = self.stack[-2]
        self._check(any(function is known for known in self.allowed.values()), 'calls', function)
        super().load_reduce()

    def load_newobj(self) -> None:
        self._check(self.stack[-2] in self.stateful, 'makes', self.stack[-2])
        super().load_newobj()

    def load_build(self) -> None:
        self._check(type(self.stack[-2]) in self.stateful, 'sets the state of', self.stack[-2])
        super().load_build()

    def load_append(self) -> None:
        self._check(type(self.stack[-2]) is list, 'appends to', self.stack[-2])
        super().load_append()

    def load_appends(self) -> None:
        self._check(type(self.metastack[-1][-1]) is list, 'appends to', self.metastack[-1][-1])
        super().load_appends()

    def load_setitem(self) -> None:
        self._check(type(self.stack[-3]) in (dict, OrderedDict), 'sets items of', self.stack[-3])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check(type(self.metastack[-1][-1]) in (dict, OrderedDict), 'sets items of', self.metastack[-1][-1])
        super().load_setitems()

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as protocol 2 writes them."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise UnpicklingError(f'the file encodes as {encoding!r}, and only bytes are allowed')
    return codecs.encode(text, encoding)


class _Module:
    """Has what ``torch.load`` uses of a pickle module."""

    __name__ = 'restricted_pickle'

    def __init__(self, unpickler: type[Unpickler]) -> None:
        self.Unpickler = unpickler

    def load(self, file: Any, **options: Any) -> Any:
        return self.Unpickler(file, **options).load()


def restricted_to(allowed: Mapping[str, Any], stateful: tuple[type, ...]) -> Any:
    """A pickle module for ``torch.load``.

    Args:
        allowed: ``'module.name'`` -> what a file gets where it names that.
        stateful: Classes of which a file may make objects and set their state.
    """
    members = dict(allowed={'_codecs.encode': _encode, **allowed}, stateful=(OrderedDict, *stateful))
    return _Module(type('RestrictedUnpickler', (Unpickler,), members))
