"""Asking for memory before it is needed: the one machine instruction that the loops need and numba has no name for."""

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_READ, _KEEP_CLOSE, _DATA = 0, 3, 1
"""LLVM's codes: not to write, into all levels of the cache, not instructions."""


def _prefetch(_typing: Any, array: Any, at: Any) -> Any:
    """Ask for the cache line of element `at` (uint64, counted flat) of a C-contiguous array. Harmless where there is no such memory."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        wide, word = ir.IntType(64), ir.IntType(32)
        offset = builder.mul(arguments[1], wide(context.get_abi_sizeof(context.get_data_type(kind.dtype))))
        place = builder.inttoptr(builder.add(builder.ptrtoint(data, wide), offset), ir.IntType(8).as_pointer())
        signature_of = ir.FunctionType(ir.VoidType(), [place.type, word, word, word])
        ask = cgutils.get_or_insert_function(builder.module, signature_of, "llvm.prefetch.p0")
        builder.call(ask, [place, word(_READ), word(_KEEP_CLOSE), word(_DATA)])
        return context.get_dummy_value()

    return types.void(array, at), codegen


if TYPE_CHECKING:

    def prefetch(array: Any, at: Any) -> None: ...
else:
    prefetch = intrinsic(_prefetch)
