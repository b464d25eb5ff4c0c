"""What an answer must be, as a grammar that decides about every token. Nothing else in the product imports
`llguidance`."""

from appliance.engine.constraint.compiler import Compiler, TokenBytes
from appliance.engine.constraint.matcher import Matcher

__all__ = ["Compiler", "Matcher", "TokenBytes"]
