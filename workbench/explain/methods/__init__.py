"""Attribution methods: one file a way to say what a score rests on.

A method declares its options, `title`, `grain` (its default), `complete` (its scores sum to the score minus the
baseline's), `unit` (of a score), `signed` (a score may speak against the label), `targeted` (it depends on the label
that is asked about) and `at`: with "pieces" it gives a score a word piece, which add up to any grain; with "units" it
hides whole units and gives a score each. `rows(units)` foretells how many rows the model reads. The first paragraph of
its docstring is one plain sentence, which pages show. Nothing here needs torch before `attribute` is called.
"""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain
from workbench.explain.methods.attention_rollout import AttentionRollout
from workbench.explain.methods.feature_ablation import FeatureAblation
from workbench.explain.methods.gradient_shap import GradientShap
from workbench.explain.methods.input_x_gradient import InputXGradient
from workbench.explain.methods.integrated_gradients import IntegratedGradients
from workbench.explain.methods.kernel_shap import KernelShap
from workbench.explain.methods.occlusion import Occlusion
from workbench.explain.methods.saliency import Saliency

if TYPE_CHECKING:
    from trainer.inference.target_score import Probe

METHODS = {
    "integrated_gradients": IntegratedGradients,
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "gradient_shap": GradientShap,
    "occlusion": Occlusion,
    "feature_ablation": FeatureAblation,
    "kernel_shap": KernelShap,
    "attention_rollout": AttentionRollout,
}


def method(name: str, options: dict | None = None) -> Plain:
    """The method of that name with these options. Raises UnknownName, or BadSpec that names each wrong option."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS, next_step="Give one of them as the method.")
    try:
        return METHODS[name].model_validate(options or {})
    except ValidationError as error:
        wrong = [(f"{name}.{'.'.join(map(str, each['loc']))}", each["msg"]) for each in error.errors()]
        raise BadSpec(wrong, next_step=f"Its options: {', '.join(_options(METHODS[name])) or 'none'}.") from None


def scores(chosen: Plain, probe: "Probe", owner: np.ndarray) -> np.ndarray:
    """A score a unit, (units,); owner: (m,) the unit of each piece that the probe shows."""
    if chosen.at == "units":
        return np.asarray(chosen.attribute(probe, owner), dtype=float)
    return np.bincount(owner, weights=chosen.attribute(probe))


def _options(kind: type[Plain]) -> list[str]:
    return [name for name in kind.model_fields if name != "name"]
