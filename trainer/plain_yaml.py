"""YAML as this project reads it: plain values, and no key twice in one mapping, of which YAML keeps the last unsaid."""

from typing import Any

import yaml


class _Once:
    """Refuses a key that its mapping has already; what `<<` merges in may be stated anew."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            identity = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if identity in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value:.40}` is given twice", key.start_mark
                )
            seen.add(identity)
        return super().construct_mapping(node, deep=deep)


class _Loader(_Once, yaml.SafeLoader):
    pass


class _FastLoader(_Once, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    pass


def parse_yaml(text: str, *, fast: bool = False) -> Any:
    """The value of a YAML document; raises yaml.YAMLError with `problem` and `problem_mark` for what is wrong.

    fast: for long files, by libyaml, whose messages say less.
    """
    loader = (_FastLoader if fast else _Loader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
