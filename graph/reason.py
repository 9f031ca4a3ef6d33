"""What an error says, in one line."""

import re

__all__ = ["reason_of"]

# Where in its sources onnxruntime was, which it says before what went wrong.
PLACE = re.compile(
    r"/\S+\.(?:cc|h):\d+ (?:.*?(?=\[ONNXRuntimeError\])|[^()]*\([^()]*\) (?:const )?)"
)


def reason_of(error: BaseException) -> str:
    """Return the first line of what ``error`` says, or its type where it says nothing."""
    said = next(iter(str(error).strip().splitlines()), "")
    return PLACE.sub("", said) or type(error).__name__
