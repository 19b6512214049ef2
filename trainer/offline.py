"""Keeps libraries off the network, by environment variables that child processes inherit.

Only `stillroom zoo fetch` and `stillroom datasets fetch` use the network.
"""

import os

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
}


def go_offline() -> None:
    """Set OFFLINE in this process. Call it before huggingface_hub is imported: it reads the environment only then."""
    os.environ.update(OFFLINE)
