"""The base-decayed Kullback-Leibler objective of UniPTS."""

from onnx_unipts.recipe import Training
from onnx_unipts.training.objective import OBJECTIVES, Temperatures


@OBJECTIVES.register("base-decayed-kl")
def base_decayed_kl(settings: Training, epoch: int) -> Temperatures:
    """Sum of Z log_b(Z / Z_hat), the logarithm's base b decaying over the epochs.

    UniPTS (arXiv 2405.18810), section 3.1. As its public code has it: Z is the teacher's softmax at
    temperature 4, Z_hat the student's at 1; the logarithm is divided by 8 * 0.99^epoch; the whole
    is multiplied by 16.
    """
    base = settings.student_temperature * settings.base_decay**epoch
    return Temperatures(
        teacher=settings.temperature, inner=1.0, outer=settings.temperature**2 / base
    )
