"""Nothing leaves the machine: the libraries are told so before they are imported, and every child inherits it.

Only `stillroom zoo fetch` and `stillroom datasets fetch` reach the network; all else reads what is here.
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
    """For the rest of this process. huggingface_hub looks once, when it is imported."""
    os.environ.update(OFFLINE)
