"""Attribution methods, one file per method.

What a method declares is in workbench.explain.traits. Nothing here needs torch before `attribute` is called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from trainer.errors import BadSpec, UnknownName
from workbench.explain.methods.attention_rollout import AttentionRollout
from workbench.explain.methods.feature_ablation import FeatureAblation
from workbench.explain.methods.gradient_shap import GradientShap
from workbench.explain.methods.input_x_gradient import InputXGradient
from workbench.explain.methods.integrated_gradients import IntegratedGradients
from workbench.explain.methods.kernel_shap import KernelShap
from workbench.explain.methods.occlusion import Occlusion
from workbench.explain.methods.saliency import Saliency
from workbench.explain.traits import Method, PieceMethod, UnitMethod

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe

METHODS: dict[str, type[Method]] = {
    "integrated_gradients": IntegratedGradients,
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "gradient_shap": GradientShap,
    "occlusion": Occlusion,
    "feature_ablation": FeatureAblation,
    "kernel_shap": KernelShap,
    "attention_rollout": AttentionRollout,
}


def make_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The method of that name with these options. Raises UnknownName, or BadSpec that names each wrong option."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS, next_step="Give one of them as the method.")
    try:
        return METHODS[name].model_validate(options or {})
    except ValidationError as error:
        wrong = [(f"{name}.{'.'.join(map(str, each['loc']))}", each["msg"]) for each in error.errors()]
        raise BadSpec(wrong, next_step=f"Its options: {', '.join(_options(METHODS[name])) or 'none'}.") from None


def unit_scores(chosen: Method, probe: "Probe", owner: np.ndarray) -> np.ndarray:
    """A score per unit, (units,); owner: (m,) the unit of each piece that the probe shows."""
    if isinstance(chosen, UnitMethod):
        return np.asarray(chosen.attribute(probe, owner), dtype=float)
    assert isinstance(chosen, PieceMethod)
    return np.bincount(owner, weights=chosen.attribute(probe))


def _options(kind: type[Method]) -> list[str]:
    return [name for name in kind.model_fields if name != "name"]
