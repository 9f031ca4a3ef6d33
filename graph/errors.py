"""The errors that reach the user: one line each, with the exit code of the command."""

__all__ = [
    "BrokenEnvironmentError",
    "OnnxUniptsError",
    "TargetMissedError",
    "UnsupportedModelError",
    "UsageError",
]


class OnnxUniptsError(Exception):
    """Base of every error with a message for the user: what was found, where, what to do."""

    exit_code = 1


class UsageError(OnnxUniptsError):
    """An argument, a recipe or the calibration data is not usable as given."""

    exit_code = 2


class BrokenEnvironmentError(OnnxUniptsError):
    """The training build of onnxruntime is missing, overwritten or of another version."""

    exit_code = 3


class UnsupportedModelError(OnnxUniptsError):
    """The model file cannot be read, or holds nothing that this tool can prune."""

    exit_code = 4


class TargetMissedError(OnnxUniptsError):
    """The work was done but the asked target was not reached."""

    exit_code = 5
