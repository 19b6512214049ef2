"""How an explanation is computed: one type for pages, command line, demo and lab."""

from typing import Any

from trainer.prediction import Plain
from workbench.explain import faithfulness

METHOD = "integrated_gradients"


class ExplainOptions(Plain):
    """Options of an explanation.

    method, method_options: an entry of METHODS and its options. grain: one of GRAINS, by default the method's.
    baseline: "mask" or "pad", the token whose word embedding hidden pieces get; by default mask where the tokenizer has
    one. context: the target's own words stay in place, so that its context is explained. orders: number of random
    orders that faithfulness is measured against, 0 to skip it. checks: compute infidelity, sensitivity and randomised
    weights too. reading and max_tokens: as in trainer.inference.predict_many.
    """

    method: str = METHOD
    method_options: dict[str, Any] = {}
    grain: str | None = None
    baseline: str | None = None
    context: bool = False
    orders: int = faithfulness.ORDERS
    checks: bool = False
    reading: str = "windows"
    max_tokens: int | None = None
