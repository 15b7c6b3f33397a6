"""Finds keys that are given twice in a mapping of an override: Hydra's parser silently keeps the last one."""

from typing import Any

from hydra._internal.grammar.functions import Functions
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraOverrideVisitor
from hydra.grammar.gen.OverrideLexer import (  # type: ignore[attr-defined]
    CommonTokenStream,
    InputStream,
    OverrideLexer,
)
from hydra.grammar.gen.OverrideParser import OverrideParser

__all__ = ["repeated_key"]


class _Keys(HydraOverrideVisitor):
    """A visitor of Hydra's that notes the first key that a mapping has twice."""

    def __init__(self, functions: Functions) -> None:
        super().__init__(functions)
        self.repeated: Any = None

    def visitDictContainer(self, ctx: Any) -> Any:  # noqa: N802 (the parser generator's name)
        found = super().visitDictContainer(ctx)
        pairs = ctx.getTypedRuleContexts(OverrideParser.DictKeyValuePairContext)
        keys = [self.visitDictKey(pair.dictKey()) for pair in pairs]
        if len(found) < len(keys) and self.repeated is None:
            self.repeated = next(key for number, key in enumerate(keys) if key in keys[:number])
        return found


def repeated_key(override: str) -> Any:
    """Returns the first key that is given twice in a mapping of ``override``, or None.

    Args:
        override: KEY=VALUE, which Hydra can read.
    """
    if "{" not in override:
        return None
    parser = OverrideParser(CommonTokenStream(OverrideLexer(InputStream(override))))
    keys = _Keys(create_functions())
    keys.visit(parser.override())  # type: ignore[no-untyped-call]
    return keys.repeated
