"""``python -m skinray``: the command line."""

from skinray.cli import main

if __name__ == "__main__":
    main()
