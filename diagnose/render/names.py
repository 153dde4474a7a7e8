"""Names from a trace, made fit for people: cleaned of control characters, and short.

What is shown only; what a name *says* (a collective, a tensor core) is read elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_LONGEST_NAME: Final = 4096
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_SPACES: Final = re.compile(r"\s+")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
_ANONYMOUS: Final = re.compile(r"\(anonymous namespace\)::|\(anonymous namespace\)")
_WRAPPER: Final = re.compile(
    r"elementwise|reduce_kernel|multi_tensor_apply|^device_kernel$|^kernel_?agent|^kentry$|^index_\w*kernel$|^Kernel\d?$"
)
_BARE_WRAPPER: Final = re.compile(r"^Kernel\d?$|^device_kernel$")
_LENGTH: Final = re.compile(r"\d{1,4}")
_FEWEST_LETTERS: Final = 4
_SHORTEST_MANGLED: Final = 2
_CLOSING: Final = {"<": ">", "(": ")", "[": "]", "{": "}"}
_NOISE: Final = frozenset({
    "gpu_kernel_impl", "gpu_kernel_impl_nocast", "BinaryFunctor", "BUnaryFunctor", "AUnaryFunctor", "UnaryFunctor",
    "ReduceOp", "func_wrapper_t", "operator", "lambda", "array", "Array", "TensorListMetadata",
    "TensorListScalarListMetadata", "FusedOptimizerTensorListMetadata", "OffsetCalculator", "TrivialOffsetCalculator",
    "GenericPackedTensorAccessor", "enable_if", "conditional", "integral_constant", "const",
})  # fmt: skip
"""Types and wrappers in template arguments that do not say what a kernel does."""


def clean(text: str) -> str:
    """``text`` on one line without control, formatting or unassigned characters: safe for a terminal."""
    spaced = _SPACES.sub(" ", text)
    if spaced.isascii() and spaced.isprintable():
        return spaced.strip()
    seen = "".join(char for char in spaced if unicodedata.category(char) not in _HIDDEN_CATEGORIES)
    return _SPACES.sub(" ", seen).strip()


def fit(text: str, width: int, mark: str = "…") -> str:
    """``text`` in at most ``width`` characters, cut before its last quarter: both ends of a name say something."""
    if len(text) <= width:
        return text
    kept = width - len(mark)
    if kept <= 0:
        return mark[:width]
    tail = kept // 4
    return f"{text[: kept - tail]}{mark}{text[len(text) - tail :]}"


def file_line(line: str | None) -> str:
    """``/home/me/model.py:12`` -> ``model.py:12``; None -> nothing."""
    return "" if line is None else clean(re.split(r"[\\/]", line)[-1])


def fit_line(line: str, width: int, mark: str = "…") -> str:
    """``modeling_bert.py:252`` in at most ``width`` characters: the number is kept, the file's name is cut."""
    head, dot, tail = line.rpartition(".")
    room = width - len(dot + tail) - len(mark)
    return line if len(line) <= width else f"{head[:room]}{mark}{dot}{tail}" if room > 0 else fit(line, width, mark)


def fit_module(path: str, width: int, mark: str = "…") -> str:
    """``GPT2.transformer.h.*.mlp`` in at most ``width`` characters: the innermost modules are kept."""
    return path if len(path) <= width else mark + path[len(path) - width + len(mark) :] if width > len(mark) else mark


def short_op(op: str | None) -> str:
    """``aten::addmm`` -> ``addmm``; other namespaces stay; None -> ``?``."""
    return "?" if op is None else clean(op).removeprefix("aten::")


def short_kernel(name: str) -> str:
    """The part of a kernel's name that a person looks for.

    Return type, namespaces, template arguments and parameters go; of a generic kernel the function that it was made
    for stays: ``vectorized_elementwise_kernel CUDAFunctor_add``.
    """
    cleaned = clean(name[:_LONGEST_NAME])
    if cleaned.startswith("_ZN"):
        return _short_mangled(cleaned)
    if cleaned.startswith(("Memcpy", "Memset")) or not _is_cpp(cleaned):
        return cleaned
    scoped, arguments = _last_scope(_ANONYMOUS.sub("", cleaned))
    base = scoped or cleaned
    if not _WRAPPER.search(base):
        return base
    inner = _inner_function(arguments, anything=_BARE_WRAPPER.search(base) is not None)
    if inner is None:
        return base
    return inner if _BARE_WRAPPER.search(base) else f"{base} {inner}"


def fit_kernel(short: str, width: int) -> str:
    """A short kernel name in at most ``width`` characters: of a generic kernel, what it was made for is kept."""
    first, _, second = short.partition(" ")
    if len(short) <= width or not second:
        return fit(short, width)
    if second.startswith(("DtoD", "DtoH", "HtoD", "HtoH", "PtoP", "(")):
        return fit(short.partition(" (")[0], width)
    room = width - len(second) - 2
    return f"{first[:room]}… {second}" if room >= _FEWEST_LETTERS else fit(second, width)


def _is_cpp(name: str) -> bool:
    return name.startswith("void ") or "::" in name or "<" in name or re.search(r"\w\(.*\)$", name) is not None


def _last_scope(name: str) -> tuple[str, str]:
    """The function's own name, with one namespace where it is too common, and its template arguments.

    ``void ns::f<A, g(B)>(C)`` -> ``("f", "A, g(B)")``. One pass with a stack of brackets; unbalanced ones are no error.
    """
    stack: list[str] = []
    scopes, begin, opened, arguments = [""], 0, 0, ""
    for index, char in enumerate(name):
        if char in "<([{":
            if not stack:
                scopes[-1] = scopes[-1] or name[begin:index].strip()
                if char == "(" and scopes[-1]:
                    break  # the parameter list
                opened = index + 1
            stack.append(_CLOSING[char])
        elif stack:
            # A ">" inside parentheses is a comparison, one after "-" an arrow: neither is what the stack waits for.
            if char == stack[-1] and name[index - 1 : index + 1] != "->":
                stack.pop()
                if not stack:
                    arguments, begin = name[opened:index], index + 1
        elif char in " :":
            scopes[-1] = scopes[-1] or name[begin:index].strip()
            scopes = ["", ""] if char == " " else [*scopes, ""] if scopes[-1] else scopes
            begin, arguments = index + 1, ""
    else:
        scopes[-1] = scopes[-1] or name[begin:].strip()
        arguments = name[opened:] if stack else arguments
    own = scopes[-1]
    return (f"{scopes[-2]}::{own}" if own == "kernel" and len(scopes) > 1 and scopes[-2] else own), arguments


def _inner_function(arguments: str, *, anything: bool) -> str | None:
    """The first name in template arguments that is a function's or a functor's, not a type's or a wrapper's."""
    for match in _IDENTIFIER.finditer(arguments):
        word, following = match[0], arguments[match.end() : match.end() + 1]
        if word in _NOISE or following == ":":
            continue
        if anything or "unctor" in word or (following and following in "<("):
            return word
    return None


def _short_mangled(name: str) -> str:
    """The kernel's own name out of an Itanium-mangled one, where identifiers carry their length."""
    own, index = _mangled_scope(name, len("_ZN"))
    if not own or not _WRAPPER.search(own):
        return own or name
    inner = ""
    while index < len(name) and not inner:
        inner, index = _mangled_scope(name, index + 1)
    return inner if _BARE_WRAPPER.search(own) and inner else f"{own} {inner}".strip()


def _mangled_scope(name: str, index: int) -> tuple[str, int]:
    """The last of the identifiers that stand side by side from ``index`` on, and where they end."""
    last = ""
    while (length := _LENGTH.match(name, index)) is not None:
        end = length.end() + int(length[0])
        word = name[length.end() : end]
        if int(length[0]) < _SHORTEST_MANGLED or not _IDENTIFIER.fullmatch(word):
            break
        last, index = word, end
    return last, index
