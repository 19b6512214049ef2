"""`python -m workbench.cli`: the `stillroom` command."""

from workbench.cli import main

if __name__ == "__main__":
    main()
