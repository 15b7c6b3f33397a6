"""Names that stand twice in a mapping on the command line: Hydra's parser keeps the last one, and says nothing."""

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
    """Reads an override, and notes the first name that a mapping in it has twice."""

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


def repeated_key(word: str) -> Any:
    """Returns the first name that stands twice in a mapping of ``word``, or None.

    Args:
        word: KEY=VALUE, which Hydra can read.
    """
    if "{" not in word:
        return None
    parser = OverrideParser(CommonTokenStream(OverrideLexer(InputStream(word))))
    keys = _Keys(create_functions())
    keys.visit(parser.override())  # type: ignore[no-untyped-call]
    return keys.repeated
