"""Knowledge distillation: student and teacher share one temperature."""

from onnx_unipts.recipe import Training
from onnx_unipts.training.objective import OBJECTIVES, Temperatures


@OBJECTIVES.register("kl")
def kl(settings: Training, epoch: int) -> Temperatures:
    """KL(softmax(z_teacher / T) || softmax(z / T)) * T^2 (Hinton et al., arXiv 1503.02531)."""
    t = settings.temperature
    return Temperatures(teacher=t, inner=1 / t, outer=t * t)
