"""From a request's prompt to the tokens the model computes. Runs in the worker's io thread."""

from appliance.engine.prompt.answers import Answers
from appliance.engine.prompt.reader import PromptReader, ReadPrompt
from appliance.engine.prompt.template import ChatTemplate

__all__ = ["Answers", "ChatTemplate", "PromptReader", "ReadPrompt"]
