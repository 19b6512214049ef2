"""YAML as this project reads it: plain values, and an error for a repeated key, of which YAML keeps the last."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    _FastBase = yaml.SafeLoader
else:  # without libyaml there is no CSafeLoader
    _FastBase = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(yaml.constructor.SafeConstructor):
    """Refuses a key that its mapping already has; keys that `<<` merges in may be overridden."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            identity = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if identity in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value:.40}` is given twice", key.start_mark
                )
            seen.add(identity)
        return super().construct_mapping(node, deep=deep)


class _Loader(_UniqueKeys, yaml.SafeLoader):
    pass


class _FastLoader(_UniqueKeys, _FastBase):
    pass


def parse_yaml(text: str, *, fast: bool = False) -> Any:
    """The value of a YAML document. Raises yaml.YAMLError with `problem` and `problem_mark`.

    fast: for long files, with libyaml, whose error messages say less.
    """
    loader = (_FastLoader if fast else _Loader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
